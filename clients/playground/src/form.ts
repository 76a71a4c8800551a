// The form: settings in and out, and the server's objections beside the fields that they are about.
import { ValueType } from "../../typescript/src/gen/shortlist/v1/types_pb.js";
import { byId, h } from "./element.js";
import { elementOf } from "./request.js";
import type { Pick, Schema } from "./schema.js";
import type { Failure } from "./server.js";
import { type Condition, type Operator, type Settings, SOURCES, type SourceKind } from "./settings.js";

const TEXTS = {
  user: "user",
  text: "text",
  limit: "limit",
  candidates: "candidates",
  diversity: "diversity",
  rerankCount: "rerank-count",
  label: "label",
  timeoutMs: "timeout",
} as const;
const CHECKS = {
  withSeen: "with-seen",
  exact: "exact",
  rerank: "rerank",
  reasons: "reasons",
  explain: "explain",
  debug: "debug",
} as const;
const SOURCE_WORDS: Record<SourceKind, string> = {
  nearest: "nearest to the query",
  recent_history: "like the last ones",
  popularity: "popular",
  text: "by words",
};
const TYPES: Partial<Record<ValueType, string>> = {
  [ValueType.INT64]: "a whole number",
  [ValueType.DOUBLE]: "a number",
  [ValueType.BOOL]: "true or false",
};

type Texted = HTMLInputElement | HTMLTextAreaElement | HTMLSelectElement;

export class Form {
  private schema: Schema | undefined;
  private liked: Pick[] = [];
  private conditionCount = 0;

  constructor() {
    byId("condition-add").addEventListener("click", () => {
      this.addCondition().querySelector("select")?.focus();
    });
    byId("like-add").addEventListener("click", () => this.likeTyped());
    byId("like").addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || byId<HTMLInputElement>("like").value.trim() === "") return;
      // Enter adds what is typed, and asks only where nothing is.
      event.preventDefault();
      this.likeTyped();
    });
    byId("diversity").addEventListener("input", () => this.showDiversity());
    byId("sources").append(...SOURCES.map(sourceRow));
  }

  /** Offers what the bundle has. */
  offer(schema: Schema): void {
    this.schema = schema;
    byId<HTMLButtonElement>("condition-add").disabled = schema.attributes.length === 0;
    byId("label").replaceChildren(
      h("option", { value: "" }, "as the server chooses"),
      ...["stable", ...schema.labels].map((label) => h("option", { value: label }, label)),
    );
    const features = schema.bundle.features.filter(({ name }) => /^(user|context)\./.test(name) && name !== "user.id");
    byId("features-box").hidden = features.length === 0;
    byId("features").replaceChildren(
      ...features.map(({ name, type }) => {
        const hint = `${TYPES[elementOf(type)] ?? "text"}${type >= ValueType.STRING_LIST ? "s, by commas" : ""}`;
        return h(
          "label",
          { class: "feature" },
          h("span", {}, name),
          h("input", { "data-feature": name, placeholder: hint }),
        );
      }),
    );
  }

  /** Offers the items that have come by. */
  offerItems(schema: Schema): void {
    const options = [...schema.items].map(([id, title]) =>
      h("option", { value: title === id ? id : `${title} [${id}]` }),
    );
    byId("known-items").replaceChildren(...options);
  }

  read(): Settings {
    const settings: Record<string, unknown> = { liked: this.liked, sources: {}, features: {} };
    for (const [name, id] of Object.entries(TEXTS)) settings[name] = byId<Texted>(id).value.trim();
    for (const [name, id] of Object.entries(CHECKS)) settings[name] = byId<HTMLInputElement>(id).checked;
    const sources: Partial<Record<SourceKind, string>> = {};
    for (const kind of SOURCES) {
      if (byId<HTMLInputElement>(`source-${kind}`).checked) {
        sources[kind] = byId<HTMLInputElement>(`source-${kind}-count`).value.trim();
      }
    }
    const features: Record<string, string> = {};
    for (const input of document.querySelectorAll<HTMLInputElement>("[data-feature]")) {
      if (input.value.trim() !== "") features[input.dataset.feature ?? ""] = input.value.trim();
    }
    return { ...settings, sources, features, conditions: this.conditions() } as Settings;
  }

  write(settings: Settings): void {
    for (const [name, id] of Object.entries(TEXTS)) byId<Texted>(id).value = settings[name as keyof typeof TEXTS];
    for (const [name, id] of Object.entries(CHECKS)) {
      byId<HTMLInputElement>(id).checked = settings[name as keyof typeof CHECKS];
    }
    for (const kind of SOURCES) {
      byId<HTMLInputElement>(`source-${kind}`).checked = settings.sources[kind] !== undefined;
      byId<HTMLInputElement>(`source-${kind}-count`).value = settings.sources[kind] ?? "";
    }
    for (const input of document.querySelectorAll<HTMLInputElement>("[data-feature]")) {
      input.value = settings.features[input.dataset.feature ?? ""] ?? "";
    }
    byId("conditions").replaceChildren();
    for (const condition of settings.conditions) this.addCondition(condition);
    this.liked = [...settings.liked];
    this.showLiked();
    this.showDiversity();
    this.clearProblems();
    const open = { "sources-box": Object.keys(settings.sources).length > 0, "model-box": settings.rerank };
    for (const [id, wanted] of Object.entries(open)) if (wanted) byId<HTMLDetailsElement>(id).open = true;
  }

  isLiked(id: string): boolean {
    return this.liked.some((one) => one.id === id);
  }

  /** Adds an item to what is liked, or takes it away. */
  toggleLiked(pick: Pick): void {
    this.liked = this.isLiked(pick.id) ? this.liked.filter((one) => one.id !== pick.id) : [...this.liked, pick];
    this.showLiked();
  }

  /** Shows the server's objection beside its field; returns whether there is one. */
  showProblem(failure: Failure): boolean {
    const fields = [...byId("form").querySelectorAll<HTMLElement>("[data-field]")];
    const fitting = fields.filter((one) => isUnder(failure.field, one.dataset.field ?? "-"));
    fitting.sort((a, b) => (b.dataset.field?.length ?? 0) - (a.dataset.field?.length ?? 0));
    const field = fitting[0];
    if (failure.field === "" || field === undefined) return false;
    const got = failure.got === "" ? "" : `, got ${failure.got}`;
    const text = failure.expected === "" ? failure.message : `expected ${failure.expected}${got}`;
    const problem = h("p", { class: "problem", id: `problem-${failure.field.replaceAll(/[^\w]/g, "-")}` }, text);
    field.append(problem);
    for (let box = field.closest("details"); box !== null; box = box.parentElement?.closest("details") ?? null)
      box.open = true;
    const input = field.querySelector<HTMLElement>("input, textarea, select");
    input?.setAttribute("aria-invalid", "true");
    input?.setAttribute("aria-describedby", problem.id);
    input?.focus();
    return true;
  }

  clearProblems(): void {
    for (const problem of byId("form").querySelectorAll(".problem")) problem.remove();
    for (const input of byId("form").querySelectorAll("[aria-invalid]")) {
      input.removeAttribute("aria-invalid");
      input.removeAttribute("aria-describedby");
    }
  }

  private likeTyped(): void {
    const input = byId<HTMLInputElement>("like");
    const typed = input.value.trim();
    if (typed === "") return;
    const id = /\[([^\]]+)\]$/.exec(typed)?.[1] ?? typed;
    const named = [...(this.schema?.items ?? [])].find(([, title]) => title.toLowerCase() === typed.toLowerCase());
    const pick = named ?? [id, this.schema?.items.get(id) ?? id];
    if (!this.isLiked(pick[0])) this.toggleLiked({ id: pick[0], title: pick[1] });
    input.value = "";
  }

  private showLiked(): void {
    byId("liked").replaceChildren(
      ...this.liked.map((one) => {
        const remove = h("button", { type: "button", class: "remove", "aria-label": `Take ${one.title} away` }, "×");
        remove.addEventListener("click", () => {
          this.toggleLiked(one);
          byId("like").focus();
        });
        return h("li", { class: "chip" }, one.title, remove);
      }),
    );
  }

  private showDiversity(): void {
    byId("diversity-value").textContent = byId<HTMLInputElement>("diversity").value;
  }

  private conditions(): Condition[] {
    return [...byId("conditions").querySelectorAll<HTMLElement>(".condition")].map((row) => {
      const [attribute, operator] = [...row.querySelectorAll("select")].map((select) => select.value);
      const value = row.querySelector("input")?.value.trim() ?? "";
      return { attribute: attribute ?? "", operator: (operator ?? "=") as Operator, value };
    });
  }

  private addCondition(wanted?: Condition): HTMLElement {
    this.conditionCount += 1;
    const values = h("datalist", { id: `values-${this.conditionCount}` });
    const attribute = h("select", { "aria-label": "Attribute" });
    const names = this.schema?.attributes.map((one) => one.name) ?? [];
    // An address may name one that this bundle does not have: it stands here, and the server refuses it.
    if (wanted !== undefined && !names.includes(wanted.attribute)) names.push(wanted.attribute);
    attribute.append(...names.map((name) => h("option", { value: name }, name)));
    attribute.value = wanted?.attribute ?? names.find((name) => name === "genres") ?? names[0] ?? "";
    const operator = h("select", { "aria-label": "Comparison" });
    const value = h("input", { "aria-label": "Value", list: values.id, autocomplete: "off" });
    value.value = wanted?.value ?? "";
    const fit = () => {
      const list = this.schema?.isList(attribute.value) ?? false;
      const type = elementOf(this.schema?.type(attribute.value) ?? ValueType.STRING);
      const fitting: [Operator, string][] = list
        ? [
            [":", "has"],
            ["!:", "has not"],
          ]
        : type === ValueType.BOOL
          ? [
              ["=", "is"],
              ["!=", "is not"],
            ]
          : [
              ["=", "is"],
              ["!=", "is not"],
              [">=", "from"],
              ["<=", "up to"],
              [">", "above"],
              ["<", "below"],
            ];
      operator.replaceChildren(...fitting.map(([sign, text]) => h("option", { value: sign }, text)));
      value.placeholder = TYPES[type] ?? "text";
      const known = type === ValueType.BOOL ? ["true", "false"] : (this.schema?.valuesOf(attribute.value) ?? []);
      values.replaceChildren(...known.map((one) => h("option", { value: one })));
    };
    fit();
    if (wanted !== undefined) operator.value = wanted.operator;
    attribute.addEventListener("change", fit);
    const remove = h("button", { type: "button", class: "remove", "aria-label": "Take this filter away" }, "×");
    const row = h("div", { class: "condition" }, attribute, operator, value, values, remove);
    remove.addEventListener("click", () => {
      row.remove();
      byId("condition-add").focus();
    });
    byId("conditions").append(row);
    return row;
  }
}

function sourceRow(kind: SourceKind): HTMLElement {
  return h(
    "div",
    { class: "source" },
    h("label", { class: "check" }, h("input", { type: "checkbox", id: `source-${kind}` }), ` ${SOURCE_WORDS[kind]} `),
    h("input", {
      type: "number",
      id: `source-${kind}-count`,
      min: 1,
      max: 4096,
      placeholder: "200",
      "aria-label": `Candidates of ${kind}`,
    }),
  );
}

/** Whether a field of the request belongs to a part of the form: `selection.diversity` to `selection`. */
function isUnder(field: string, part: string): boolean {
  const rest = field.slice(part.length);
  return field.startsWith(part) && (rest === "" || rest.startsWith(".") || rest.startsWith("["));
}
