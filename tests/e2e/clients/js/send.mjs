// SPDX-License-Identifier: Apache-2.0
// Sends SERVER spans by one exporter: node send.mjs grpc|proto|json URL KEY COMPRESSION SPANS
// Every diagnostic of the SDK goes to standard error; the exit code is 1 if a batch was not taken.
import { Metadata } from "@grpc/grpc-js";
import { DiagConsoleLogger, DiagLogLevel, SpanKind, diag } from "@opentelemetry/api";
import { OTLPTraceExporter as GrpcExporter } from "@opentelemetry/exporter-trace-otlp-grpc";
import { OTLPTraceExporter as JsonExporter } from "@opentelemetry/exporter-trace-otlp-http";
import { OTLPTraceExporter as ProtoExporter } from "@opentelemetry/exporter-trace-otlp-proto";
import { defaultResource, resourceFromAttributes } from "@opentelemetry/resources";
import { BasicTracerProvider, BatchSpanProcessor } from "@opentelemetry/sdk-trace-base";

const [protocol, url, key, compression, count] = process.argv.slice(2);
const Exporter = { grpc: GrpcExporter, json: JsonExporter, proto: ProtoExporter }[protocol];

diag.setLogger(new DiagConsoleLogger(), DiagLogLevel.WARN);

const metadata = new Metadata();
metadata.set("x-auth-key", key);
const credentials = protocol === "grpc" ? { metadata } : { headers: { "x-auth-key": key } };
const exporter = new Exporter({ url, compression, ...credentials });
const codes = [];
const send = exporter.export.bind(exporter);
exporter.export = (spans, done) =>
  send(spans, (result) => {
    codes.push(result.code);
    done(result);
  });

const provider = new BasicTracerProvider({
  resource: defaultResource().merge(resourceFromAttributes({ "service.name": "javascript" })),
  spanProcessors: [new BatchSpanProcessor(exporter)],
});
const tracer = provider.getTracer("send");
for (let number = 0; number < Number(count); number += 1) {
  const span = tracer.startSpan("GET /js/{n}", {
    kind: SpanKind.SERVER,
    attributes: {
      "http.request.method": "GET",
      "http.route": "/js/{n}",
      "url.path": `/js/${number}`,
      "http.response.status_code": 200,
      "enduser.id": `javascript-${protocol}-${compression}`,
      // Half of a surrogate pair, as `slice` makes of an emoji: no valid text.
      "user_agent.original": "half \ud83d of a pair",
      "server.address": "api.example.com",
    },
  });
  span.end();
}
await provider.forceFlush().catch((error) => console.error(`flush: ${error}`));
await provider.shutdown();
process.exitCode = codes.length > 0 && codes.every((code) => code === 0) ? 0 : 1;
