// A kafkajs client for the interop tests: JSON lines over stdin and stdout (see tests/support/clients.rs).
// NODE_PATH names the folder that holds the packages.
'use strict';

const { Kafka, CompressionTypes, CompressionCodecs, logLevel } = require('kafkajs');
const readline = require('node:readline');
const snappy = require('kafkajs-snappy');
const lz4 = require('lz4-napi');
const { ZstdCodec } = require('zstd-codec');

const TYPES = {
  none: CompressionTypes.None,
  gzip: CompressionTypes.GZIP,
  snappy: CompressionTypes.Snappy,
  lz4: CompressionTypes.LZ4,
  zstd: CompressionTypes.ZSTD,
};

const emit = value => process.stdout.write(JSON.stringify(value) + '\n');
const text = buffer => (buffer === null || buffer === undefined ? null : buffer.toString('utf8'));

async function loadCodecs() {
  CompressionCodecs[CompressionTypes.Snappy] = snappy;
  CompressionCodecs[CompressionTypes.LZ4] = () => ({
    compress: async encoder => lz4.compressFrame(encoder.buffer),
    decompress: async buffer => lz4.decompressFrame(buffer),
  });
  const zstd = await new Promise(resolve => ZstdCodec.run(resolve));
  CompressionCodecs[CompressionTypes.ZSTD] = () => ({
    compress: async encoder => Buffer.from(new zstd.Simple().compress(encoder.buffer)),
    decompress: async buffer => Buffer.from(new zstd.Streaming().decompress(new Uint8Array(buffer))),
  });
}

// kafkajs takes headers as an object: a name with several values as a list.
function headersToObject(pairs) {
  const headers = {};
  for (const [name, value] of pairs) {
    if (!(name in headers)) headers[name] = value;
    else headers[name] = [].concat(headers[name], [value]);
  }
  return headers;
}

function headersToPairs(headers) {
  const pairs = [];
  for (const [name, value] of Object.entries(headers || {})) {
    for (const one of Array.isArray(value) ? value : [value]) pairs.push([name, text(one)]);
  }
  return pairs;
}

async function write(kafka) {
  const producer = kafka.producer({ allowAutoTopicCreation: true });
  await producer.connect();
  const runs = [];
  let written = 0;
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const record = JSON.parse(line);
    const last = runs[runs.length - 1];
    const message = {
      key: record.k, value: record.v, partition: record.p, headers: headersToObject(record.h),
      ...(record.ts === null || record.ts === undefined ? {} : { timestamp: String(record.ts) }),
    };
    written += 1;
    if (last && last.codec === record.c && last.topic === record.t && last.messages.length < 50) last.messages.push(message);
    else runs.push({ codec: record.c, topic: record.t, messages: [message] });
  }
  for (const run of runs) {
    await producer.send({ topic: run.topic, compression: TYPES[run.codec], acks: -1, messages: run.messages });
  }
  await producer.disconnect();
  emit({ event: 'written', n: written });
}

function show(topic, partition, message) {
  emit({
    t: topic, p: partition, o: Number(message.offset), ts: Number(message.timestamp),
    k: text(message.key), v: text(message.value), h: headersToPairs(message.headers),
  });
}

async function read(kafka, topics) {
  const admin = kafka.admin();
  await admin.connect();
  const left = new Map();
  for (const topic of topics) {
    for (const { partition, high, low } of await admin.fetchTopicOffsets(topic)) {
      if (Number(high) > Number(low)) left.set(`${topic} ${partition}`, Number(high));
    }
  }
  await admin.disconnect();
  // kafkajs reads only as a member of a group.
  const consumer = kafka.consumer({ groupId: `read-${process.pid}-${Date.now()}` });
  await consumer.connect();
  await consumer.subscribe({ topics, fromBeginning: true });
  if (left.size > 0) {
    await new Promise((resolve, reject) => {
      consumer.on(consumer.events.CRASH, ({ payload }) => reject(payload.error));
      consumer.run({
        autoCommit: false,
        eachMessage: async ({ topic, partition, message }) => {
          show(topic, partition, message);
          const key = `${topic} ${partition}`;
          if (left.has(key) && Number(message.offset) + 1 >= left.get(key)) left.delete(key);
          if (left.size === 0) resolve();
        },
      }).catch(reject);
    });
  }
  await consumer.disconnect();
  emit({ event: 'end' });
}

async function group(kafka, name, topics) {
  const consumer = kafka.consumer({ groupId: name, heartbeatInterval: 500, sessionTimeout: 10000, rebalanceTimeout: 15000 });
  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
    const n = Object.values(payload.memberAssignment).reduce((sum, partitions) => sum + partitions.length, 0);
    emit({ event: 'assigned', n });
  });
  consumer.on(consumer.events.REBALANCING, () => emit({ event: 'revoked', n: 0 }));
  await consumer.connect();
  await consumer.subscribe({ topics, fromBeginning: true });
  const quit = new Promise(resolve => {
    process.stdin.on('end', resolve);
    process.stdin.on('close', resolve);
    process.stdin.resume();
  });
  await consumer.run({
    eachBatch: async ({ batch, resolveOffset, commitOffsetsIfNecessary, isStale, isRunning }) => {
      for (const message of batch.messages) {
        if (isStale() || !isRunning()) break;
        show(batch.topic, batch.partition, message);
        resolveOffset(message.offset);
      }
      await commitOffsetsIfNecessary();
    },
    eachBatchAutoResolve: false,
  });
  await quit;
  await consumer.disconnect();
  emit({ event: 'left' });
}

async function main() {
  const [mode, brokers, ...rest] = process.argv.slice(2);
  await loadCodecs();
  const kafka = new Kafka({
    clientId: 'interop', brokers: brokers.split(','), logLevel: logLevel.ERROR,
    retry: { initialRetryTime: 100, retries: 20, maxRetryTime: 2000 },
    logCreator: () => ({ namespace, log }) => console.error(namespace, JSON.stringify(log)),
  });
  if (mode === 'write') await write(kafka);
  else if (mode === 'read') await read(kafka, rest);
  else await group(kafka, rest[0], rest.slice(1));
}

main().then(() => process.exit(0), error => {
  console.error(error);
  process.exit(1);
});
