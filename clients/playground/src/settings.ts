// What is asked for, as it stands in the form and in the page's address.
import type { Pick } from "./schema.js";

export interface Condition {
  attribute: string;
  operator: Operator;
  value: string;
}

/** As the command writes them; `!:` is a list that does not hold a value. */
export type Operator = "=" | "!=" | ">" | ">=" | "<" | "<=" | ":" | "!:";

export const SOURCES = ["nearest", "recent_history", "popularity", "text"] as const;
export type SourceKind = (typeof SOURCES)[number];

export interface Settings {
  user: string;
  liked: Pick[];
  text: string;
  /** By full name, as the bundle declares them: `user.age`, `context.hour`. */
  features: Record<string, string>;
  limit: string;
  candidates: string;
  diversity: string;
  exact: boolean;
  withSeen: boolean;
  conditions: Condition[];
  /** Number of candidates of each that is asked; empty leaves it to the server. */
  sources: Partial<Record<SourceKind, string>>;
  rerank: boolean;
  rerankCount: string;
  reasons: boolean;
  label: string;
  timeoutMs: string;
  explain: boolean;
  debug: boolean;
}

export const DEFAULTS: Settings = {
  user: "",
  liked: [],
  text: "",
  features: {},
  limit: "10",
  candidates: "",
  diversity: "0",
  exact: false,
  withSeen: false,
  conditions: [],
  sources: {},
  rerank: false,
  rerankCount: "",
  reasons: false,
  label: "",
  timeoutMs: "5000",
  explain: false,
  debug: false,
};

/** Returns what is not as it is by default, for the page's address. */
export function written(settings: Settings): string {
  const changed = Object.entries(settings).filter(
    ([name, value]) => JSON.stringify(value) !== JSON.stringify(DEFAULTS[name as keyof Settings]),
  );
  const parameters = new URLSearchParams(
    changed.map(([name, value]) => [name, typeof value === "string" ? value : JSON.stringify(value)]),
  );
  return parameters.toString();
}

/** Returns the settings of an address; what it does not say, or says wrongly, is as by default. */
export function read(address: string): Settings {
  const settings: Record<string, unknown> = structuredClone({ ...DEFAULTS });
  for (const [name, text] of new URLSearchParams(address)) {
    const usual = DEFAULTS[name as keyof Settings];
    if (typeof usual === "string") settings[name] = text;
    else if (usual !== undefined) {
      try {
        const value: unknown = JSON.parse(text);
        const alike = typeof value === typeof usual && Array.isArray(value) === Array.isArray(usual) && value !== null;
        if (alike) settings[name] = value;
      } catch {
        // An address that somebody has cut short.
      }
    }
  }
  return settings as unknown as Settings;
}
