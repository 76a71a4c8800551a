import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { type Query, QuerySchema, type Value, ValueSchema } from "./gen/shortlist/v1/types_pb.js";

/** Returns the query for a user whom the bundle may know. Others are described in a `UserQuery`, by features and a history. */
export function forUser(id: string): Query {
  return create(QuerySchema, { kind: { case: "user", value: { id } } });
}

/** Returns the query for items like those of these ids. */
export function forItems(...itemIds: string[]): Query {
  return create(QuerySchema, { kind: { case: "items", value: { itemIds } } });
}

/** Returns the query for items near a vector of the bundle's space. */
export function forEmbedding(...values: number[]): Query {
  return create(QuerySchema, { kind: { case: "embedding", value: { values } } });
}

/** Returns the query for items whose texts mean what these words do. */
export function forText(text: string): Query {
  return create(QuerySchema, { text });
}

/** Returns a text as the value of a feature or an attribute. */
export function stringValue(value: string): Value {
  return made({ case: "stringValue", value });
}

/** Returns an integer as the value of a feature or an attribute. Throws RangeError where a number is none. */
export function intValue(value: number | bigint): Value {
  return made({ case: "int64Value", value: BigInt(value) });
}

/** Returns a number as the value of a feature or an attribute. */
export function floatValue(value: number): Value {
  return made({ case: "doubleValue", value });
}

/** Returns a truth value as the value of a feature or an attribute. */
export function boolValue(value: boolean): Value {
  return made({ case: "boolValue", value });
}

/** Returns several texts as the value of a feature or an attribute. */
export function stringValues(...values: string[]): Value {
  return made({ case: "stringList", value: { values } });
}

/** Returns several integers as the value of a feature or an attribute. Throws RangeError where a number is none. */
export function intValues(...values: (number | bigint)[]): Value {
  return made({ case: "int64List", value: { values: values.map(BigInt) } });
}

/** Returns several numbers as the value of a feature or an attribute. */
export function floatValues(...values: number[]): Value {
  return made({ case: "doubleList", value: { values } });
}

/** Returns several truth values as the value of a feature or an attribute. */
export function boolValues(...values: boolean[]): Value {
  return made({ case: "boolList", value: { values } });
}

type Kind = NonNullable<Exclude<MessageInitShape<typeof ValueSchema>, Value>["kind"]>;

function made(kind: Kind): Value {
  return create(ValueSchema, { kind });
}
