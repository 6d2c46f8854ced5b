// The same work on BullMQ: add in bulks, process concurrently, each job acknowledged. Prints one JSON object.
const [, , folder, port, jobs, bulk, concurrency] = process.argv;
const { Queue, Worker } = require(`${folder}/node_modules/bullmq`);
const connection = { host: '127.0.0.1', port: Number(port), maxRetriesPerRequest: null };
const total = Number(jobs);

async function add(queue, offset = 0) {
  const adds = [];
  for (let n = 0; n < total; n += Number(bulk)) {
    const size = Math.min(Number(bulk), total - n);
    const list = Array.from({ length: size }, (_, i) => ({
      name: 'look',
      data: { workspace: offset + n + i, bundle: 'x'.repeat(900) },
      opts: { attempts: 5, removeOnComplete: false },
    }));
    adds.push(queue.addBulk(list));
    if (adds.length === 16) await Promise.all(adds.splice(0));
  }
  await Promise.all(adds);
}

function work(name) {
  let done = 0;
  return new Promise((resolve, reject) => {
    const worker = new Worker(name, async () => ({ state: 'succeeded' }), { connection, concurrency: Number(concurrency) });
    worker.on('completed', () => { if (++done === total) worker.close().then(resolve); });
    worker.on('error', reject);
  });
}

const seconds = (from) => Number(process.hrtime.bigint() - from) / 1e9;
(async () => {
  const first = new Queue('first', { connection });
  let from = process.hrtime.bigint();
  await add(first);
  const enqueue = total / seconds(from);
  from = process.hrtime.bigint();
  await work('first');
  const processed = total / seconds(from);
  const second = new Queue('second', { connection });
  from = process.hrtime.bigint();
  await Promise.all([add(second), work('second')]);
  const both = total / seconds(from);
  console.log(JSON.stringify({ enqueue_per_s: enqueue, process_per_s: processed, end_to_end_per_s: both }));
  process.exit(0);
})().catch((error) => { console.error(error); process.exit(1); });
