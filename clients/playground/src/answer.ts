// One answer: what it is, its funnel, its list, and the call itself.
import { toJson } from "@bufbuild/protobuf";
import {
  type RecommendResponse,
  RecommendResponseSchema,
} from "../../typescript/src/gen/shortlist/v1/recommendation_pb.js";
import {
  type AnswerInfo,
  ColdStartBasis,
  DegradedReason,
  type ScoredItem,
  ShortfallReason,
  WarningReason,
} from "../../typescript/src/gen/shortlist/v1/types_pb.js";
import { type Asked, LANGUAGES, requestJson } from "./code.js";
import { copyButton, h, shownMs } from "./element.js";
import { funnel, serverMs } from "./funnel.js";
import { type ItemOptions, itemList } from "./items.js";
import { adviceOf, type Failure } from "./server.js";
import { tabs } from "./tabs.js";

/** What came of a call. */
export interface Outcome {
  asked: Asked;
  response?: RecommendResponse;
  failure?: Failure;
  /** Time as the browser saw it. */
  tookMs: number;
}

const SHORT: Partial<Record<ShortfallReason, string>> = {
  [ShortfallReason.CATALOG_EXHAUSTED]: "the catalogue has no more",
  [ShortfallReason.POPULARITY_EXHAUSTED]: "nothing is known to search by, and the bundle has no popularity",
  [ShortfallReason.FILTER_EXHAUSTED]: "no more items match the filters",
  [ShortfallReason.SOURCES_EXHAUSTED]: "the sources gave no more candidates: raise their numbers, or add one",
  [ShortfallReason.SCORE_MIN]: "no more candidates reach the least score",
  [ShortfallReason.CAPS]: "no more candidates fit under the caps",
};
const COLD: Partial<Record<ColdStartBasis, string>> = {
  [ColdStartBasis.FEATURES]: "from the features",
  [ColdStartBasis.HISTORY]: "from what was liked",
  [ColdStartBasis.NOTHING]: "from what is popular",
};

/** Draws an answer, or why there is none. `name` tells two of them apart. */
export function answerOf(outcome: Outcome, options: ItemOptions & { name?: string; again: () => void }): HTMLElement {
  const { response, failure } = outcome;
  const parts: (HTMLElement | null)[] = [];
  if (options.name !== undefined) parts.push(h("h2", { class: "side" }, options.name));
  if (failure !== undefined) parts.push(refusal(failure, options.again));
  if (response?.info !== undefined) {
    parts.push(
      summary(response.items, response.info, outcome),
      notes(response.items, response.info, outcome),
      card("How it narrows", funnel(response.info)),
      response.items.length === 0
        ? card("The list", h("p", { class: "empty" }, "No item is left. Take a filter away, or let seen items in."))
        : card("The list", itemList(response.items, options)),
    );
  }
  parts.push(callOf(outcome));
  return h("div", { class: "answer" }, ...parts);
}

export function card(title: string, ...children: (Node | null)[]): HTMLElement {
  return h("section", { class: "card" }, h("h3", {}, title), ...children);
}

function refusal(failure: Failure, again: () => void): HTMLElement {
  const button = h("button", { type: "button", class: "small" }, "Try again");
  button.addEventListener("click", again);
  const titles = { field: "The server refuses this", dead: "No answer", stopped: "Stopped", late: "Too late" };
  return h(
    "div",
    { class: "notice bad", role: "alert" },
    h("b", {}, titles[failure.kind as keyof typeof titles] ?? "It did not work"),
    h("p", {}, adviceOf(failure)),
    failure.requestId !== "" && h("p", { class: "muted" }, "request ", h("code", {}, failure.requestId)),
    failure.kind === "field" ? null : button,
  );
}

function summary(items: ScoredItem[], info: AnswerInfo, { tookMs, asked }: Outcome): HTMLElement {
  const { user, liked, text } = asked.settings;
  const whom = [
    user !== "" ? `user ${user}` : "",
    liked.length > 0 ? `who likes ${liked.length === 1 ? liked[0]?.title : `${liked.length} items`}` : "",
    text !== "" ? `“${text}”` : "",
  ].filter((part) => part !== "");
  return h(
    "div",
    { class: "summary" },
    h(
      "p",
      { class: "headline" },
      h("b", {}, `${items.length} item${items.length === 1 ? "" : "s"}`),
      ` for ${whom.join(", ") || "somebody new"}`,
    ),
    h(
      "ul",
      { class: "facts" },
      h("li", {}, h("b", {}, shownMs(tookMs)), " here"),
      h("li", {}, h("b", {}, shownMs(serverMs(info.stages))), " on the server"),
      h("li", {}, "bundle ", h("b", {}, `${info.bundle?.name} ${info.bundle?.version}`), ` (${info.bundleLabel})`),
      info.matchCount !== undefined &&
        h("li", {}, h("b", {}, info.matchCount.toLocaleString("en")), " match the filters"),
      info.coldStart && h("li", {}, "not known: answered ", h("b", {}, COLD[info.coldStartBasis] ?? "all the same")),
      (info.rerank?.itemIds.length ?? 0) > 0 && h("li", {}, "ordered by ", h("b", {}, info.rerank?.model)),
      h("li", { class: "muted" }, "request ", h("code", {}, info.requestId)),
    ),
  );
}

function notes(items: ScoredItem[], info: AnswerInfo, { asked }: Outcome): HTMLElement | null {
  const said: string[] = [];
  if (info.shortfallReason !== ShortfallReason.UNSPECIFIED) {
    const wanted = asked.request.limit === 0 ? 20 : asked.request.limit;
    said.push(
      `${items.length} of the ${wanted} asked for: ${SHORT[info.shortfallReason] ?? ShortfallReason[info.shortfallReason]}.`,
    );
  }
  for (const one of info.degraded) said.push(`${degradation(one.stage, one.source, one.reason)}: ${one.message}`);
  for (const one of info.warnings) {
    said.push(
      `${one.field} (${WarningReason[one.reason]}): ${one.message}${one.subjects.length ? ` — ${one.subjects.join(", ")}` : ""}`,
    );
  }
  if (said.length === 0) return null;
  return h("ul", { class: "notice warn", "aria-label": "Notes" }, ...said.map((text) => h("li", {}, text)));
}

export function degradation(stage: string, source: string, reason: DegradedReason): string {
  return `without ${stage}${source !== "" ? ` ${source}` : ""} (${DegradedReason[reason]})`;
}

function callOf({ asked, response }: Outcome): HTMLElement {
  const json = (text: string) => h("pre", { tabindex: 0 }, h("code", {}, text));
  const sent = requestJson(asked.request, 2);
  const came = response && JSON.stringify(toJson(RecommendResponseSchema, response), null, 2);
  return h(
    "section",
    { class: "card calls" },
    h("h3", {}, "The same call elsewhere"),
    tabs(
      "Languages",
      LANGUAGES.map(({ name, write }) => ({
        name,
        panel: () => {
          const text = write(asked);
          return [
            copyButton("Copy", () => text),
            h("pre", { tabindex: 0, "data-language": name }, h("code", {}, text)),
          ];
        },
      })),
    ),
    h(
      "details",
      { class: "raw" },
      h("summary", {}, "Raw request"),
      copyButton("Copy", () => sent),
      json(sent),
    ),
    came !== undefined
      ? h(
          "details",
          { class: "raw" },
          h("summary", {}, "Raw response"),
          copyButton("Copy", () => came),
          json(came),
        )
      : null,
  );
}
