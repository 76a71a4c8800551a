// The request that settings stand for.
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import {
  type RecommendRequest,
  RecommendRequestSchema,
} from "../../typescript/src/gen/shortlist/v1/recommendation_pb.js";
import {
  type Filter,
  FilterSchema,
  type SourceOptions,
  SourceOptionsSchema,
  type Value,
  ValueSchema,
  ValueType,
} from "../../typescript/src/gen/shortlist/v1/types_pb.js";
import type { Schema } from "./schema.js";
import { type Condition, type Settings, SOURCES, type SourceKind } from "./settings.js";

/** Returns the request. Numbers that are none become 0, which the server takes as its default or refuses. */
export function requestOf(settings: Settings, schema: Schema): RecommendRequest {
  const features = featuresOf(settings, schema);
  const text = settings.text.trim();
  const history = settings.liked.map((one) => ({ itemId: one.id, action: "like" }));
  const user = { id: settings.user, features: features.user, history };
  // A text stands for itself; where nothing is said at all, it is somebody of whom nothing is known.
  const someone = text === "" || user.id !== "" || history.length > 0 || Object.keys(user.features).length > 0;
  const filter = filterOf(settings.conditions, schema);
  const diversity = Number(settings.diversity);
  return create(RecommendRequestSchema, {
    query: { ...(someone && { kind: { case: "user", value: user } }), context: features.context, text },
    limit: whole(settings.limit),
    ...((settings.candidates !== "" || settings.exact) && {
      retrieval: { candidateCount: whole(settings.candidates), exact: settings.exact },
    }),
    ...(settings.withSeen && { exclusions: { seen: false } }),
    attributes: ["*"],
    ...(filter !== undefined && { filter }),
    sources: sourcesOf(settings),
    ...(diversity !== 0 && { selection: { diversity } }),
    explain: settings.explain,
    debug: settings.debug,
    bundleLabel: settings.label,
    ...(settings.rerank && {
      rerank: { candidateCount: whole(settings.rerankCount), reasons: settings.reasons },
    }),
  });
}

function whole(text: string): number {
  const number = Math.trunc(Number(text));
  return Number.isFinite(number) ? Math.max(-(2 ** 31), Math.min(number, 2 ** 31 - 1)) : 0;
}

function sourcesOf(settings: Settings): SourceOptions[] {
  const kinds: Record<SourceKind, MessageInitShape<typeof SourceOptionsSchema>["kind"]> = {
    nearest: { case: "nearest", value: {} },
    recent_history: { case: "recentHistory", value: {} },
    popularity: { case: "popularity", value: {} },
    text: { case: "text", value: {} },
  };
  return SOURCES.filter((kind) => settings.sources[kind] !== undefined).map((kind) =>
    create(SourceOptionsSchema, {
      candidateCount: whole(settings.sources[kind] ?? ""),
      kind: kinds[kind] ?? { case: undefined },
    }),
  );
}

function featuresOf(settings: Settings, schema: Schema): Record<"user" | "context", Record<string, Value>> {
  const found: Record<"user" | "context", Record<string, Value>> = { user: {}, context: {} };
  for (const { name, type } of schema.bundle.features) {
    const text = settings.features[name] ?? "";
    const [part, ...rest] = name.split(".");
    if (text !== "" && (part === "user" || part === "context")) found[part][rest.join(".")] = typed(text, type);
  }
  return found;
}

function filterOf(conditions: Condition[], schema: Schema): Filter | undefined {
  const filters = conditions.filter((one) => one.value !== "").map((one) => conditionOf(one, schema));
  if (filters.length <= 1) return filters[0];
  return create(FilterSchema, { kind: { case: "allOf", value: { filters } } });
}

function conditionOf({ attribute, operator, value: text }: Condition, schema: Schema): Filter {
  const value = typed(text, elementOf(schema.type(attribute)));
  const range = { ">": "above", ">=": "atLeast", "<": "below", "<=": "atMost" } as const;
  switch (operator) {
    case "=":
      return create(FilterSchema, { kind: { case: "equals", value: { attribute, value } } });
    case ":":
      return create(FilterSchema, { kind: { case: "contains", value: { attribute, value } } });
    case "!=":
    case "!:": {
      const without = conditionOf({ attribute, operator: operator === "!=" ? "=" : ":", value: text }, schema);
      return create(FilterSchema, { kind: { case: "noneOf", value: { filters: [without] } } });
    }
    default:
      return create(FilterSchema, { kind: { case: "range", value: { attribute, [range[operator]]: value } } });
  }
}

export function elementOf(type: ValueType): ValueType {
  return type >= ValueType.STRING_LIST ? type - (ValueType.STRING_LIST - ValueType.STRING) : type;
}

/** Returns a text as a value of a type. What cannot be read so stays a text, which the server refuses by name. */
function typed(text: string, type: ValueType): Value {
  if (type >= ValueType.STRING_LIST) {
    const parts = text.split(",").map((part) => typed(part.trim(), elementOf(type)).kind.value);
    const kind = { 5: "stringList", 6: "int64List", 7: "doubleList", 8: "boolList" }[type as 5 | 6 | 7 | 8];
    return create(ValueSchema, { kind: { case: kind, value: { values: parts } } as never });
  }
  if (type === ValueType.INT64 && /^[+-]?\d+$/.test(text)) {
    return create(ValueSchema, { kind: { case: "int64Value", value: BigInt.asIntN(64, BigInt(text)) } });
  }
  if (type === ValueType.DOUBLE && text.trim() !== "" && Number.isFinite(Number(text))) {
    return create(ValueSchema, { kind: { case: "doubleValue", value: Number(text) } });
  }
  if (type === ValueType.BOOL && /^(true|false)$/i.test(text)) {
    return create(ValueSchema, { kind: { case: "boolValue", value: text.toLowerCase() === "true" } });
  }
  return create(ValueSchema, { kind: { case: "stringValue", value: text } });
}
