// node-redis as it comes: prints one JSON line per call, the same for every server that answers alike.
import { createClient } from "redis";

const client = createClient({ url: `redis://127.0.0.1:${process.argv[2]}` });
client.on("error", (error) => {
  console.error(error);
  process.exit(1);
});

const show = (name, value) =>
  console.log(name, JSON.stringify(value, (_, v) => (v instanceof Map || v instanceof Set ? [...v] : typeof v === "number" && !Number.isFinite(v) ? String(v) : v)));
const sorted = (values) => [...values].sort();

await client.connect();
await client.flushAll();
show("ping", await client.ping());
show("set", await client.set("a", "1", { EX: 1000, NX: true }));
show("get", await client.get("a"));
show("ttl", (await client.ttl("a")) > 0);
show("none", await client.get("none"));
show("incrByFloat", await client.incrByFloat("a", 1.5));
show("mSet", await client.mSet({ m1: "x", m2: "y" }));
show("mGet", await client.mGet(["m1", "none", "m2"]));
show("many", await Promise.all(Array.from({ length: 500 }, (_, at) => client.incr(`count:${at % 7}`))));
show("hSet", await client.hSet("h", { f: "1", g: "2" }));
show("hGetAll", await client.hGetAll("h"));
show("hmGet", await client.hmGet("h", ["f", "none"]));
show("hIncrBy", await client.hIncrBy("h", "f", 41));
show("rPush", await client.rPush("l", ["a", "b", "c"]));
show("lRange", await client.lRange("l", 0, -1));
show("lPop", await client.lPop("l"));
show("lMove", await client.lMove("l", "l2", "LEFT", "RIGHT"));
show("sAdd", await client.sAdd("s", ["a", "b"]));
show("sMembers", sorted(await client.sMembers("s")));
show("sIsMember", await client.sIsMember("s", "a"));
show("zAdd", await client.zAdd("z", [{ score: 1, value: "a" }, { score: 2.5, value: "b" }]));
show("zRangeWithScores", await client.zRangeWithScores("z", 0, -1));
show("zScore", await client.zScore("z", "b"));
show("zIncrBy", await client.zIncrBy("z", 0.25, "b"));
show("zPopMin", await client.zPopMin("z"));
show("geoAdd", await client.geoAdd("g", { longitude: 13.361389, latitude: 38.115556, member: "Palermo" }));
show("geoPos", await client.geoPos("g", "Palermo"));
show("setBit", await client.setBit("bits", 7, 1));
show("bitCount", await client.bitCount("bits"));
show("pfAdd", await client.pfAdd("p", ["a", "b"]));
show("pfCount", await client.pfCount("p"));
const found = [];
for await (const keys of client.scanIterator({ MATCH: "count:*", COUNT: 2 })) found.push(...keys);
show("scan", sorted(new Set(found)));
show("error", await client.lPush("a", "x").catch((error) => error.message));
show("unknown", await client.sendCommand(["NOSUCH", "x"]).catch((error) => error.message));
show("select", await client.select(4));
show("dbSize", await client.dbSize());
show("info", /redis_version:/.test(await client.info()));
show("clientId", typeof (await client.sendCommand(["CLIENT", "ID"])));
show("name", await client.sendCommand(["CLIENT", "GETNAME"]));
show("copies", await client.copy("none", "x"));
await client.close();
