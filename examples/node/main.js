// Asks a server about somebody who just does something: node main.js [HOST:PORT]
import { connect, explain } from "./kinrec.js";

const recommender = connect(process.argv[2] ?? "localhost:50051");
const view = (itemId) => ({ itemId, eventType: "view" });

try {
  const { name, version } = await recommender.GetModel({});
  console.log(`model ${name} ${version}`);

  // The state says where the person stands. Keep its bytes as they are, and send only what is new.
  const before = await recommender.EncodeSequence({ events: [view("i7"), view("i9")] });
  const after = await recommender.EncodeSequence({ state: before.state, events: [view("i11")] });
  const whole = await recommender.EncodeSequence({ events: ["i7", "i9", "i11"].map(view) });
  const same = after.vector.every((number, place) => number === whole.vector[place]);
  console.log(`one event and the state give ${same ? "what" : "NOT WHAT"} all events give`);

  const answer = await recommender.Recommend({ state: after.state, limit: 3 });
  for (const { itemId, score, title } of answer.recommendations) {
    console.log(`${itemId} ${score.toFixed(4)} ${title}`);
  }

  console.log((await withHistory(Buffer.from("not a state"), ["i7", "i9", "i11"].map(view))).basis);
  await recommender.Recommend({ userId: "nobody" }).catch(say);
  await recommender.Recommend({ userId: "u1", limit: -1 }).catch(say);
} finally {
  recommender.close();
}

/** Recommends by a state, and by the history if the state is refused, as after a change of the key. */
async function withHistory(state, history) {
  try {
    return await recommender.Recommend({ state });
  } catch (error) {
    if (!explain(error).reason.startsWith("STATE_")) throw error;
    say(error);
    return await recommender.Recommend({ events: history });
  }
}

function say(error) {
  const { code, reason, violations } = explain(error);
  const rules = violations.map(({ field, description }) => `; ${field}: ${description}`);
  console.log(`${code} ${reason}${rules.join("")}`);
}
