// Asks by tedious, at a door that options.connector leads to, for whom the server
// sees, and loads rows in bulk, some of which a transaction takes back and some a
// cancel. Arguments: the socket's path, or host and port with a space between; how
// many rows.
import net from 'node:net';
import tedious from 'tedious';

const [where, rows] = process.argv.slice(2);
const say = (name, value) => console.log(`${name}=${value}`);
const [host, port] = where.split(' ');
const { Connection, Request, TYPES } = tedious;
const c = new Connection({
  server: 'sandbox.database.windows.net',
  authentication: { type: 'default', options: { userName: 'any', password: 'any' } },
  options: {
    encrypt: false, database: 'd1', requestTimeout: 60000, rowCollectionOnRequestCompletion: true,
    connector: async () => (port ? net.connect(Number(port), host) : net.connect(where)),
  },
});
const one = (text) => new Promise((yes, no) => {
  c.execSqlBatch(new Request(text, (err, count, all) => (err ? no(err) : yes(all[0]?.[0].value))));
});
const promised = (method) => new Promise((yes, no) => c[method]((err) => (err ? no(err) : yes())));

function load(source) {
  return new Promise((yes, no) => {
    const bulk = c.newBulkLoad('#t', (err, count) => (err ? no(err) : yes(count)));
    bulk.addColumn('id', TYPES.Int, { nullable: true });
    bulk.addColumn('pad', TYPES.NVarChar, { nullable: true, length: 50 });
    c.execBulkLoad(bulk, source(bulk));
  });
}

function* numbers(n) {
  for (let id = 0; id < n; id++) yield { id, pad: `row ${id}` };
}

async function* halfway(bulk) {
  yield* numbers(Math.floor(rows / 2));
  bulk.cancel();
  yield* numbers(10);
}

try {
  await new Promise((yes, no) => c.connect((err) => (err ? no(err) : yes())));
  say('who', await one('SELECT SUSER_SNAME()'));
  await one('CREATE TABLE #t (id int, pad nvarchar(50))');
  await promised('beginTransaction');
  say('loaded', await load(() => numbers(rows)));
  await promised('rollbackTransaction');
  say('rolledBack', await one('SELECT COUNT(*) FROM #t'));
  await promised('beginTransaction');
  await load(() => numbers(rows));
  await promised('commitTransaction');
  say('committed', await one('SELECT COUNT(*) FROM #t'));
  await promised('beginTransaction');
  say('cancelled', await load(halfway).then((n) => n, (err) => err.code ?? err.message));
  await promised('rollbackTransaction');
  say('after', await one('SELECT COUNT(*) FROM #t'));
  c.close();
} catch (err) {
  say('failed', `${err.number ?? err.code} ${err.message}`);
  process.exit(1);
}
