// ioredis as it comes: prints one JSON line per call, the same for every server that answers alike.
import { Redis } from "ioredis";

const redis = new Redis({ port: Number(process.argv[2]), host: "127.0.0.1", maxRetriesPerRequest: 2 });
redis.on("error", (error) => {
  console.error(error);
  process.exit(1);
});

const show = (name, value) => console.log(name, JSON.stringify(value));

await redis.flushall();
show("set", await redis.set("a", "1", "PX", 100000, "NX"));
show("set again", await redis.set("a", "2", "NX"));
show("get", await redis.get("a"));
show("getBuffer", (await redis.getBuffer("a")).toString("hex"));
show("none", await redis.get("none"));
show("incrbyfloat", await redis.incrbyfloat("a", "0.5"));
show("mset", await redis.mset(new Map([["m1", "x"], ["m2", "y"]])));
show("mget", await redis.mget("m1", "none", "m2"));
const pipeline = redis.pipeline();
for (let at = 0; at < 500; at += 1) pipeline.incr(`count:${at % 7}`);
show("pipeline", await pipeline.exec());
show("hset", await redis.hset("h", { f: "1", g: "2" }));
show("hgetall", await redis.hgetall("h"));
show("hgetall none", await redis.hgetall("none"));
show("rpush", await redis.rpush("l", "a", "b", "c"));
show("lrange", await redis.lrange("l", 0, -1));
show("lpop", await redis.lpop("l", 2));
show("sadd", await redis.sadd("s", "a", "b"));
show("smembers", (await redis.smembers("s")).sort());
show("zadd", await redis.zadd("z", 1, "a", 2.5, "b"));
show("zrange", await redis.zrange("z", 0, -1, "WITHSCORES"));
show("zrangebyscore", await redis.zrangebyscore("z", "(1", "+inf", "WITHSCORES"));
show("zpopmax", await redis.zpopmax("z"));
show("setbit", await redis.setbit("bits", 7, 1));
show("bitcount", await redis.bitcount("bits"));
show("geoadd", await redis.geoadd("g", 13.361389, 38.115556, "Palermo"));
show("geodist", await redis.geodist("g", "Palermo", "Palermo"));
const found = [];
for await (const keys of redis.scanStream({ match: "count:*", count: 2 })) found.push(...keys);
show("scan", [...new Set(found)].sort());
const fields = [];
for await (const part of redis.hscanStream("h")) fields.push(...part);
show("hscan", fields.sort());
show("error", await redis.lpush("a", "x").catch((error) => error.message));
show("unknown", await redis.call("NOSUCH", "x").catch((error) => error.message));
show("select", await redis.select(4));
show("dbsize", await redis.dbsize());
show("status", redis.status);
await redis.quit();
