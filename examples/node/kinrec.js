// A client of the recommender for Node: the calls as promises, and the reasons of what fails.
import { fileURLToPath } from "node:url";

import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";
import protobuf from "protobufjs";

const PROTOS = fileURLToPath(new URL("../../protos", import.meta.url));
const SERVICE = "kinrec.v1.RecommenderService";
const METHODS = ["EncodeSequence", "SimilarUsers", "Recommend", "Rank", "SimilarItems", "GetModel"];

const SERVICE_CONFIG = {
  loadBalancingConfig: [{ round_robin: {} }],
  methodConfig: [
    {
      name: [{ service: SERVICE }],
      // All calls only read, so one that no server answered may go to the next.
      retryPolicy: {
        maxAttempts: 5,
        initialBackoff: "0.05s",
        maxBackoff: "0.5s",
        backoffMultiplier: 2,
        retryableStatusCodes: ["UNAVAILABLE", "CANCELLED"],
      },
    },
  ],
};

// What the details of an error are made of: google.rpc.Status, ErrorInfo and BadRequest.
const details = protobuf.Root.fromJSON({
  nested: {
    Any: { fields: { typeUrl: { type: "string", id: 1 }, value: { type: "bytes", id: 2 } } },
    Status: { fields: { details: { rule: "repeated", type: "Any", id: 3 } } },
    ErrorInfo: { fields: { reason: { type: "string", id: 1 }, domain: { type: "string", id: 2 } } },
    FieldViolation: {
      fields: { field: { type: "string", id: 1 }, description: { type: "string", id: 2 } },
    },
    BadRequest: {
      fields: { fieldViolations: { rule: "repeated", type: "FieldViolation", id: 1 } },
    },
  },
});

/**
 * Connects to a server, at the first call.
 *
 * Each method takes a request and the seconds that it may last (2 unless given), and gives a promise of the
 * response: `await recommender.Recommend({ userId: "u1", limit: 5 })`. `close()` ends it.
 */
export function connect(target) {
  const definition = protoLoader.loadSync("kinrec/v1/recommender.proto", {
    includeDirs: [PROTOS],
    longs: Number,
    enums: String,
    defaults: true,
  });
  const { RecommenderService } = grpc.loadPackageDefinition(definition).kinrec.v1;
  const client = new RecommenderService(target, grpc.credentials.createInsecure(), {
    "grpc.service_config": JSON.stringify(SERVICE_CONFIG),
    "grpc.max_receive_message_length": 128 * 2 ** 20,
  });
  const ask = (method) => (request, seconds = 2) =>
    new Promise((resolve, reject) => {
      const deadline = Date.now() + seconds * 1000;
      client[method](request, { deadline }, (error, response) =>
        error ? reject(error) : resolve(response),
      );
    });
  const calls = Object.fromEntries(METHODS.map((method) => [method, ask(method)]));
  return { ...calls, close: () => client.close() };
}

/** Says why a call failed: the status, the service's reason ("" if it gave none), and the fields at fault. */
export function explain(error) {
  const found = { code: grpc.status[error.code], reason: "", violations: [] };
  const [data] = error.metadata?.get("grpc-status-details-bin") ?? [];
  if (!data) return found;
  for (const { typeUrl, value } of details.Status.decode(data).details) {
    if (typeUrl.endsWith("/google.rpc.ErrorInfo")) {
      const info = details.ErrorInfo.decode(value);
      if (info.domain === "kinrec") found.reason = info.reason;
    } else if (typeUrl.endsWith("/google.rpc.BadRequest")) {
      const { fieldViolations } = details.BadRequest.decode(value);
      found.violations = fieldViolations.map(({ field, description }) => ({ field, description }));
    }
  }
  return found;
}
