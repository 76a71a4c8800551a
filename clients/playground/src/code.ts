// The same call as what was asked, for a terminal and in other languages.
import { toJson } from "@bufbuild/protobuf";
import {
  type RecommendRequest,
  RecommendRequestSchema,
} from "../../typescript/src/gen/shortlist/v1/recommendation_pb.js";
import { python } from "./python.js";
import type { Schema } from "./schema.js";
import type { Settings } from "./settings.js";
import { quoted, shortlist } from "./shell.js";

/** What a call is written down from. */
export interface Asked {
  settings: Settings;
  request: RecommendRequest;
  schema: Schema;
  /** Address of gRPC. */
  target: string;
  /** Where this page comes from. */
  origin: string;
  tls: boolean;
  /** Whether a key is sent, which stands in none of the texts. */
  key: boolean;
}

const METHOD = "shortlist.v1.RecommendationService/Recommend";

export const LANGUAGES: { name: string; write: (asked: Asked) => string }[] = [
  { name: "shortlist", write: shortlist },
  { name: "Python", write: python },
  { name: "TypeScript", write: typescript },
  { name: "Go", write: go },
  { name: "buf curl", write: bufCurl },
  { name: "grpcurl", write: grpcurl },
  { name: "curl", write: curl },
];

export function requestJson(request: RecommendRequest, indent?: number): string {
  return JSON.stringify(toJson(RecommendRequestSchema, request), null, indent);
}

function bearer(key: boolean): string {
  return key ? ' \\\n  -H "authorization: Bearer $SHORTLIST_API_KEY"' : "";
}

function curl({ request, origin, key, settings }: Asked): string {
  const time = settings.timeoutMs === "" ? "" : ` \\\n  -H 'connect-timeout-ms: ${Number(settings.timeoutMs)}'`;
  const head = `curl -s ${quoted(`${origin}/${METHOD}`)} \\\n  -H 'content-type: application/json'`;
  return `${head}${time}${bearer(key)} \\\n  -d ${quoted(requestJson(request))}\n`;
}

function grpcurl({ request, target, tls, key }: Asked): string {
  return `grpcurl${tls ? "" : " -plaintext"}${bearer(key)} \\\n  -d ${quoted(requestJson(request))} \\\n  ${target} ${METHOD}\n`;
}

function bufCurl({ request, target, tls, key }: Asked): string {
  const scheme = tls ? "https" : "http";
  const plain = tls ? "" : " --http2-prior-knowledge";
  const reflect = key ? ' \\\n  --reflect-header "authorization: Bearer $SHORTLIST_API_KEY"' : "";
  return `buf curl --protocol grpc${plain}${bearer(key)}${reflect} \\\n  -d ${quoted(requestJson(request))} \\\n  ${scheme}://${target}/${METHOD}\n`;
}

function typescript({ request, target, tls, key, settings }: Asked): string {
  const options = [
    ...(settings.timeoutMs === "" ? [] : [`timeoutMs: ${Number(settings.timeoutMs)}`]),
    ...(tls ? ["tls: {}"] : []),
    ...(key ? ['apiKey: process.env["SHORTLIST_API_KEY"] ?? ""'] : []),
  ];
  const json = requestJson(request, 2);
  return `import { fromJson } from "@bufbuild/protobuf";
import { RecommendRequestSchema, ShortlistClient } from "@shortlist-dev/client";

const client = new ShortlistClient(${JSON.stringify(target)}${options.length > 0 ? `, { ${options.join(", ")} }` : ""});
const request = fromJson(RecommendRequestSchema, ${json});
const answer = await client.recommend(request);
for (const item of answer.items) {
  console.log(item.id, item.attributes["title"]?.kind.value, item.score);
}
client.close();
`;
}

function go({ request, target, tls, key, settings }: Asked): string {
  const json = requestJson(request, 2);
  const literal = json.includes("`") ? JSON.stringify(json) : `\`${json}\``;
  const imports = [
    "context",
    ...(tls ? ["crypto/tls"] : []),
    "fmt",
    "log",
    ...(key ? ["os"] : []),
    ...(settings.timeoutMs === "" ? [] : ["time"]),
  ];
  const options = [
    JSON.stringify(target),
    ...(settings.timeoutMs === "" ? [] : [`shortlist.WithTimeout(${Number(settings.timeoutMs)}*time.Millisecond)`]),
    ...(tls ? ["shortlist.WithTLS(&tls.Config{})"] : []),
    ...(key ? ['shortlist.WithAPIKey(os.Getenv("SHORTLIST_API_KEY"))'] : []),
  ];
  return `package main

import (
${imports.map((name) => `\t"${name}"`).join("\n")}

	shortlist "github.com/shortlist-dev/shortlist/clients/go"
	pb "github.com/shortlist-dev/shortlist/clients/go/shortlist/v1"
	"google.golang.org/protobuf/encoding/protojson"
)

func main() {
	client, err := shortlist.New(${options.join(", ")})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	request := &pb.RecommendRequest{}
	if err := protojson.Unmarshal([]byte(${literal}), request); err != nil {
		log.Fatal(err)
	}
	answer, err := client.Recommend(context.Background(), request)
	if err != nil {
		log.Fatal(err)
	}
	for _, item := range answer.Items {
		fmt.Println(item.Id, item.Attributes["title"].GetStringValue(), item.Score)
	}
}
`;
}
