/** How answers are compared: see tests/data/requests/README.md. */
export interface Rules {
  volatile: string[];
  tolerance: number;
  unordered: Record<string, string>;
}

type Json = unknown;
type Fields = Record<string, Json>;

/** Returns where two answers differ. */
export function differences(rules: Rules, method: string, expected: Fields, got: Fields): string[] {
  const field = rules.unordered[method];
  return [...compare(rules, "", inOrder(expected, field), inOrder(got, field))];
}

function inOrder(answer: Fields, field: string | undefined): Fields {
  if (field === undefined || !Array.isArray(answer.responses)) {
    return answer;
  }
  const place = (response: Fields) => (response[field] as number | undefined) ?? 0;
  return { ...answer, responses: [...answer.responses].sort((one, other) => place(one) - place(other)) };
}

function* compare(rules: Rules, path: string, expected: Json, got: Json): Generator<string> {
  if (isFields(expected) && isFields(got)) {
    for (const name of [...new Set([...Object.keys(expected), ...Object.keys(got)])].sort()) {
      if (!rules.volatile.includes(name)) {
        yield* compare(rules, `${path}.${name}`, expected[name], got[name]);
      }
    }
  } else if (Array.isArray(expected) && Array.isArray(got) && expected.length === got.length) {
    for (const [place, one] of expected.entries()) {
      yield* compare(rules, `${path}[${place}]`, one, got[place]);
    }
  } else if (!isEqual(rules, expected, got)) {
    yield `${path.slice(1)}: expected ${JSON.stringify(expected)}, got ${JSON.stringify(got)}`;
  }
}

function isFields(value: Json): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isEqual(rules: Rules, expected: Json, got: Json): boolean {
  if (typeof expected === "number" && typeof got === "number") {
    return Math.abs(expected - got) <= rules.tolerance * Math.max(1, Math.abs(expected), Math.abs(got));
  }
  return expected === got;
}
