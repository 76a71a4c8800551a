// What the bundle says of its items, and what the items that have been seen say.
import type {
  BundleInfo,
  FieldInfo,
  GetActiveBundleResponse,
} from "../../typescript/src/gen/shortlist/v1/bundle_pb.js";
import { type ScoredItem, type Value, ValueType } from "../../typescript/src/gen/shortlist/v1/types_pb.js";

export interface Pick {
  id: string;
  title: string;
}

const VALUES_MAX = 200;

/** The bundle as the forms need it. */
export class Schema {
  readonly bundle: BundleInfo;
  readonly labels: string[];
  /** Items by id that have come by, to choose from. */
  readonly items = new Map<string, string>();
  private readonly values = new Map<string, Set<string>>();

  constructor(active: GetActiveBundleResponse) {
    if (active.bundle === undefined) throw new Error("the server describes no bundle");
    this.bundle = active.bundle;
    this.labels = active.others.map((other) => other.label).filter((label) => label !== "shadow");
  }

  get attributes(): FieldInfo[] {
    return this.bundle.itemAttributes;
  }

  get hasTitles(): boolean {
    return this.attributes.some((one) => one.name === "title" || one.name === "name");
  }

  type(attribute: string): ValueType {
    return this.attributes.find((one) => one.name === attribute)?.type ?? ValueType.STRING;
  }

  isList(attribute: string): boolean {
    return this.type(attribute) >= ValueType.STRING_LIST;
  }

  /** Remembers what items are called, and what values they have. */
  learn(items: ScoredItem[]): void {
    for (const item of items) {
      this.items.set(item.id, titleOf(item));
      for (const { name, type } of this.attributes) {
        const value = item.attributes[name];
        if (value === undefined || (type !== ValueType.STRING && type !== ValueType.STRING_LIST)) continue;
        const known = this.values.get(name) ?? new Set();
        for (const text of textsOf(value)) if (known.size < VALUES_MAX && text.length <= 60) known.add(text);
        this.values.set(name, known);
      }
    }
  }

  /** Values of an attribute that items have. */
  valuesOf(attribute: string): string[] {
    return [...(this.values.get(attribute) ?? [])].sort();
  }
}

/** Returns a value as texts: one, or those of a list. */
export function textsOf(value: Value | undefined): string[] {
  const kind = value?.kind;
  if (kind === undefined || kind.case === undefined) return [];
  return typeof kind.value === "object" ? kind.value.values.map(String) : [String(kind.value)];
}

export function titleOf(item: ScoredItem): string {
  return textsOf(item.attributes.title ?? item.attributes.name)[0] ?? item.id;
}

export function yearOf(item: ScoredItem): string {
  return textsOf(item.attributes.year)[0] ?? "";
}

/** Its genres, or whatever kinds it is of. */
export function kindsOf(item: ScoredItem): string[] {
  const named = item.attributes.genres ?? item.attributes.categories ?? item.attributes.tags;
  if (named !== undefined) return textsOf(named);
  const list = Object.values(item.attributes).find((value) => value.kind.case === "stringList");
  return textsOf(list).slice(0, 4);
}
