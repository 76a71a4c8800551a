// A call as the client for Python takes it.
import { ValueType } from "../../typescript/src/gen/shortlist/v1/types_pb.js";
import type { Asked } from "./code.js";
import { elementOf } from "./request.js";
import type { Schema } from "./schema.js";
import { type Condition, SOURCES, type SourceKind } from "./settings.js";

const CLASSES: Record<SourceKind, string> = {
  nearest: "Nearest",
  recent_history: "RecentHistory",
  popularity: "Popularity",
  text: "Text",
};

export function python({ settings, request, schema, target, tls, key }: Asked): string {
  const names = new Set(["Client"]);
  const lines: string[] = [];
  const use = (name: string) => {
    names.add(name);
    return name;
  };
  const kind = request.query?.kind;
  if (kind?.case === "user") {
    const features = featuresOf("user", settings.features, schema);
    if (settings.liked.length === 0 && features.length === 0) lines.push(`user=${literal(settings.user)}`);
    else {
      const parts = [
        ...(settings.user === "" ? [] : [`id=${literal(settings.user)}`]),
        ...(features.length === 0 ? [] : [`features={${features.join(", ")}}`]),
        ...(settings.liked.length === 0
          ? []
          : [
              `history=[${settings.liked.map((one) => `${use("Event")}(${literal(one.id)}, action="like")`).join(", ")}]`,
            ]),
      ];
      lines.push(`user=${use("User")}(${parts.join(", ")})`);
    }
  }
  const context = featuresOf("context", settings.features, schema);
  if (context.length > 0) lines.push(`context={${context.join(", ")}}`);
  if (request.query?.text) lines.push(`text=${literal(request.query.text)}`);
  if (request.limit !== 0) lines.push(`limit=${request.limit}`);
  if (request.retrieval?.candidateCount) lines.push(`candidate_count=${request.retrieval.candidateCount}`);
  if (settings.exact) lines.push("exact=True");
  const conditions = settings.conditions.filter((one) => one.value !== "");
  if (conditions.length > 0) {
    use("attribute");
    lines.push(`filter=${conditions.map((one) => condition(one, schema)).join(" & ")}`);
  }
  const sources = SOURCES.filter((source) => settings.sources[source] !== undefined).map((source) => {
    const count = settings.sources[source];
    return `${use(CLASSES[source])}(${count ? `candidate_count=${count}` : ""})`;
  });
  if (sources.length > 0) lines.push(`sources=[${sources.join(", ")}]`);
  if (request.selection?.diversity) lines.push(`diversity=${request.selection.diversity}`);
  if (settings.withSeen) lines.push("exclude_seen=False");
  if (settings.rerank) {
    const parts = [
      ...(settings.rerankCount === "" ? [] : [`candidate_count=${settings.rerankCount}`]),
      ...(settings.reasons ? ["reasons=True"] : []),
    ];
    lines.push(`rerank=${use("Rerank")}(${parts.join(", ")})`);
  }
  if (settings.label !== "") lines.push(`bundle_label=${literal(settings.label)}`);
  if (settings.explain) lines.push("explain=True");
  if (settings.debug) lines.push("debug=True");
  lines.push('attributes=["*"]');
  const options = [
    literal(target),
    ...(settings.timeoutMs === "" ? [] : [`timeout_s=${Number(settings.timeoutMs) / 1000}`]),
    ...(tls ? ["tls=True"] : []),
    ...(key ? ['api_key=os.environ["SHORTLIST_API_KEY"]'] : []),
  ];
  const sorted = [...names].sort((a, b) => rank(a) - rank(b) || (a < b ? -1 : 1));
  return `${key ? "import os\n\n" : ""}from shortlist_client import ${sorted.join(", ")}

with Client(${options.join(", ")}) as client:
    answer = client.recommend(
${lines.map((line) => `        ${line},`).join("\n")}
    )
    for item in answer.items:
        print(item.id, item.attributes.get("title"), item.score)
`;
}

/** As sorters of imports have it: classes before functions. */
function rank(name: string): number {
  return /^[A-Z]/.test(name) ? 0 : 1;
}

function featuresOf(part: string, features: Record<string, string>, schema: Schema): string[] {
  return schema.bundle.features
    .filter(({ name }) => name.startsWith(`${part}.`) && (features[name] ?? "") !== "")
    .map(({ name, type }) => `${literal(name.slice(part.length + 1))}: ${value(features[name] ?? "", type)}`);
}

function condition({ attribute, operator, value: text }: Condition, schema: Schema): string {
  const methods = {
    "=": "equals",
    "!=": "equals",
    ">": "above",
    ">=": "at_least",
    "<": "below",
    "<=": "at_most",
    ":": "contains",
    "!:": "contains",
  };
  const written = value(text, elementOf(schema.type(attribute)));
  return `${operator.startsWith("!") ? "~" : ""}attribute(${literal(attribute)}).${methods[operator]}(${written})`;
}

function value(text: string, type: ValueType): string {
  if (type >= ValueType.STRING_LIST) {
    return `[${text
      .split(",")
      .map((part) => value(part.trim(), elementOf(type)))
      .join(", ")}]`;
  }
  if (type === ValueType.INT64 && /^[+-]?\d+$/.test(text)) return String(BigInt(text));
  if (type === ValueType.DOUBLE && text.trim() !== "" && Number.isFinite(Number(text))) {
    const number = String(Number(text));
    return /[.e]/.test(number) ? number : `${number}.0`;
  }
  if (type === ValueType.BOOL && /^(true|false)$/i.test(text)) return text.toLowerCase() === "true" ? "True" : "False";
  return literal(text);
}

/** A string of Python: JSON's escapes are among its own. */
function literal(text: string): string {
  return JSON.stringify(text);
}
