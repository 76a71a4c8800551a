// The list: each item with a stand-in for its poster, where it came from, and how it moved from stage to stage.
import type { ScoredItem } from "../../typescript/src/gen/shortlist/v1/types_pb.js";
import { h, s, shown } from "./element.js";
import { kindsOf, titleOf, yearOf } from "./schema.js";

/** What an item of the list can do and say beyond itself. */
export interface ItemOptions {
  like: (item: ScoredItem) => void;
  isLiked: (id: string) => boolean;
  /** Where each item stands in the list that this one is compared with; absent where there is none. */
  other?: { name: string; places: Map<string, number> } | undefined;
}

export function itemList(items: ScoredItem[], options: ItemOptions): HTMLElement {
  const scores = items.map((item) => item.score);
  const least = Math.min(...scores);
  const span = Math.max(...scores) - least || 1;
  const rows = items.map((item, place) => row(item, place, 0.15 + (0.85 * (item.score - least)) / span, options));
  return h("ol", { class: "items" }, ...rows);
}

function row(item: ScoredItem, place: number, share: number, options: ItemOptions): HTMLElement {
  const like = h(
    "button",
    { type: "button", class: "like", "aria-pressed": options.isLiked(item.id) ? "true" : "false" },
    h("span", { "aria-hidden": "true" }, "♥"),
    h("span", { class: "hidden" }, `Like ${titleOf(item)}`),
  );
  like.addEventListener("click", () => {
    options.like(item);
    like.setAttribute("aria-pressed", options.isLiked(item.id) ? "true" : "false");
  });
  return h(
    "li",
    { class: "item", "data-id": item.id },
    h("span", { class: "place" }, place + 1),
    poster(item),
    h(
      "div",
      { class: "item-body" },
      heading(item),
      kinds(item),
      h("p", { class: "movement" }, path(item, place), ...positions(item, place)),
      provenance(item),
      item.rerankReason !== "" && h("p", { class: "reason" }, item.rerankReason),
      compared(item, place, options.other),
    ),
    h("div", { class: "item-score" }, scoreOf(item, share), like),
  );
}

function heading(item: ScoredItem): HTMLElement {
  const year = yearOf(item);
  return h(
    "p",
    { class: "title" },
    h("b", {}, titleOf(item)),
    year !== "" && h("span", { class: "muted" }, ` ${year}`),
    titleOf(item) !== item.id && h("code", { class: "id" }, item.id),
  );
}

export function kinds(item: ScoredItem): HTMLElement | null {
  const found = kindsOf(item);
  return found.length === 0 ? null : h("p", { class: "kinds" }, found.join(" · "));
}

/** A coloured tile with the first letters of the title, always the same for an item. */
export function poster(item: ScoredItem): SVGElement {
  let hash = 0;
  for (const letter of kindsOf(item)[0] ?? item.id) hash = (hash * 31 + (letter.codePointAt(0) ?? 0)) >>> 0;
  const words = titleOf(item)
    .replace(/^(the|a|an) /i, "")
    .split(/\s+/)
    .filter((word) => /[\p{L}\p{N}]/u.test(word));
  const letters = words
    .slice(0, 2)
    .map((word) => [...word][0] ?? "")
    .join("")
    .toUpperCase();
  return s(
    "svg",
    { viewBox: "0 0 40 56", class: `poster hue-${hash % 8}`, "aria-hidden": "true" },
    s("rect", { width: 40, height: 56, rx: 4 }),
    s("circle", { cx: 8 + (hash % 24), cy: 12 + (hash % 17), r: 15, class: "shade" }),
    s("text", { x: 20, y: 35, "text-anchor": "middle" }, letters),
  );
}

function scoreOf(item: ScoredItem, share: number): HTMLElement {
  const parts = [
    item.retrievalScore === undefined ? "" : `retrieval ${shown(item.retrievalScore)}`,
    ...Object.entries(item.outputs).map(([name, value]) => `${name} ${shown(value)}`),
  ].filter((part) => part !== "");
  return h(
    "div",
    { class: "scores" },
    h("b", {}, h("span", { class: "hidden" }, "score "), shown(item.score, 4)),
    s(
      "svg",
      { viewBox: "0 0 60 5", class: "score-bar", "aria-hidden": "true" },
      s("rect", { width: 60, height: 5, rx: 2.5, class: "track" }),
      s("rect", { width: 60 * share, height: 5, rx: 2.5 }),
    ),
    ...parts.map((part) => h("span", { class: "muted" }, part)),
  );
}

/** Where the item stood after each step, from 1. */
function steps(item: ScoredItem, place: number): [string, number][] {
  const all: [string, number | undefined][] = [
    ["found", item.candidatePosition],
    ["ranked", item.rankingPosition],
    ["drawn", item.explorationPosition],
    ["model", item.rerankPosition],
    ["diverse", item.diversityPosition],
    ["here", place],
  ];
  return all.filter((one): one is [string, number] => one[1] !== undefined).map(([name, at]) => [name, at + 1]);
}

function positions(item: ScoredItem, place: number): HTMLElement[] {
  const found = steps(item, place);
  const moved = (found[0]?.[1] ?? 0) - place - 1;
  const words = found.map(([name, at]) => h("span", { class: "step" }, `${name} `, h("b", {}, at)));
  const sign = moved > 0 ? "▲" : moved < 0 ? "▼" : "=";
  const way = moved > 0 ? "up" : moved < 0 ? "down" : "same";
  return [
    ...words,
    h(
      "span",
      { class: `moved ${way}` },
      h("span", { "aria-hidden": "true" }, moved === 0 ? sign : `${sign}${Math.abs(moved)}`),
      h("span", { class: "hidden" }, moved === 0 ? "did not move" : `moved ${way} by ${Math.abs(moved)}`),
    ),
  ];
}

/** The same as a line: higher is better. */
function path(item: ScoredItem, place: number): SVGElement {
  const found = steps(item, place).map(([, at]) => at);
  const most = Math.max(...found, 2);
  const points = found.map((at, index) => [
    4 + (index * 48) / Math.max(1, found.length - 1),
    3 + (12 * Math.log(at)) / Math.log(most),
  ]);
  return s(
    "svg",
    { viewBox: "0 0 56 18", class: "path", "aria-hidden": "true" },
    s("polyline", { points: points.map((point) => point.join(",")).join(" ") }),
    ...points.map(([x, y]) => s("circle", { cx: x, cy: y, r: 2 })),
  );
}

function provenance(item: ScoredItem): HTMLElement {
  const found: [string, number | undefined][] = [
    [item.source, item.source === "pinned" ? undefined : item.sourcePosition],
    ...item.otherSources.map((other): [string, number] => [other.source, other.position]),
  ];
  const chips = found.map(([name, at]) =>
    h("li", { class: "chip" }, name, at !== undefined && h("span", { class: "muted" }, ` no. ${at + 1}`)),
  );
  return h("ul", { class: "chips", "aria-label": "Found by" }, ...chips);
}

function compared(item: ScoredItem, place: number, other: ItemOptions["other"]): HTMLElement | null {
  if (other === undefined) return null;
  const there = other.places.get(item.id);
  if (there === undefined) return h("p", { class: "compared only" }, `not in ${other.name}`);
  const moved = there - place;
  const way = moved === 0 ? "the same place" : `${Math.abs(moved)} ${moved > 0 ? "lower" : "higher"}`;
  return h("p", { class: "compared" }, `in ${other.name}: ${there + 1}, ${way}`);
}
