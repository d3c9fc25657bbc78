// node-redis in cluster mode: asks the nodes named on the command line for the slots and goes to the leaders.
import { createCluster } from "redis";

const cluster = createCluster({ rootNodes: process.argv.slice(2).map((address) => ({ url: `redis://${address}` })) });
cluster.on("error", (error) => {
  console.error(error);
  process.exit(1);
});

const show = (name, value) => console.log(name, typeof value === "string" ? value : JSON.stringify(value));
const keys = Array.from({ length: 300 }, (_, at) => `cluster:${at}`);

await cluster.connect();
show("masters", cluster.masters.length);
show("set", (await Promise.all(keys.map((key) => cluster.set(key, key)))).filter((reply) => reply === "OK").length);
show("get", (await Promise.all(keys.map((key) => cluster.get(key)))).filter((value, at) => value === keys[at]).length);
await cluster.del("cluster:count");
for (let at = 0; at < 100; at += 1) await cluster.incr("cluster:count");
show("incr", await cluster.incr("cluster:count"));
show("pipeline", await cluster.multi().incr("{cluster}:a").incr("{cluster}:a").incr("{cluster}:a").execAsPipeline());
await cluster.del("{cluster}:a");
show("gone", (await Promise.all(keys.map((key) => cluster.del(key)))).reduce((sum, one) => sum + one, 0));
await cluster.close();
