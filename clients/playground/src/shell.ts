// A call as the command `shortlist` takes it.
import type { Asked } from "./code.js";
import { SOURCES } from "./settings.js";

/** Returns a text as one word of a shell. */
export function quoted(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

export function shortlist({ settings, request, target, tls, key }: Asked): string {
  const flags: string[] = [];
  const add = (name: string, ...values: string[]) => {
    flags.push([`--${name}`, ...values.map(quoted)].join(" "));
  };
  const kind = request.query?.kind;
  const user = kind?.case === "user" ? kind.value : undefined;
  // The command wants to be told somebody: whoever nobody knows.
  const nobody = user !== undefined && user.history.length === 0 && Object.keys(user.features).length === 0;
  if (settings.user !== "" || nobody) add("user", settings.user);
  if (settings.liked.length > 0) add("history", ...settings.liked.map((one) => eventOf(one.id)));
  const features = Object.entries(settings.features).filter(([, text]) => text !== "");
  for (const part of ["user", "context"]) {
    const own = features.filter(([name]) => name.startsWith(`${part}.`));
    const flag = part === "user" ? "feature" : "context";
    if (own.length > 0) add(flag, ...own.map(([name, text]) => `${name.slice(part.length + 1)}=${text}`));
  }
  if (request.query?.text) add("text", request.query.text);
  add("limit", String(request.limit));
  if (request.retrieval?.candidateCount) add("candidates", String(request.retrieval.candidateCount));
  if (settings.exact) add("exact");
  const conditions = settings.conditions.filter((one) => one.value !== "");
  const wanted = conditions.filter((one) => one.operator !== "!:");
  if (wanted.length > 0) add("where", ...wanted.map((one) => `${one.attribute}${one.operator}${one.value}`));
  for (const one of conditions.filter((each) => each.operator === "!:")) {
    add("exclude-where", `${one.attribute}:${one.value}`);
  }
  const sources = SOURCES.filter((source) => settings.sources[source] !== undefined);
  if (sources.length > 0) {
    add(
      "source",
      ...sources.map((source) => (settings.sources[source] ? `${source}=${settings.sources[source]}` : source)),
    );
  }
  if (request.selection?.diversity) add("diversity", String(request.selection.diversity));
  if (settings.withSeen) add("include-seen");
  if (settings.rerank) add("rerank", ...(settings.rerankCount === "" ? [] : [settings.rerankCount]));
  if (settings.rerank && settings.reasons) add("reasons");
  if (settings.label !== "") add("label", settings.label);
  if (settings.explain) add("explain");
  if (settings.debug) add("debug");
  if (settings.timeoutMs !== "") add("timeout", String(Number(settings.timeoutMs) / 1000));
  add("target", target);
  if (tls) add("tls");
  const before = key ? "# The key: export SHORTLIST_API_KEY=sl_...\n" : "";
  return `${before}shortlist recommend ${flags.join(" \\\n  ")}\n`;
}

/** An id that itself ends in a colon and a number needs one more colon. */
function eventOf(id: string): string {
  return /:[-+.\d]*$/.test(id) ? `${id}:` : id;
}
