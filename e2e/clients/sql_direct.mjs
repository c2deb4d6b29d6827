// tedious' own login with an access token, straight at a SQL server: what real
// applications do, step by step. Arguments: host, port, encrypt (true|strict),
// the file of the CA. SQL_TOKEN is the token. The output is a JSON object, one
// member for each step.
import { readFileSync } from 'node:fs';
import tedious from 'tedious';

const { Connection, Request, TYPES } = tedious;
const [host, port, encrypt, ca] = process.argv.slice(2);
const out = {};

function connect(options) {
  const connection = new Connection({
    server: host,
    authentication: { type: 'azure-active-directory-access-token', options: { token: process.env.SQL_TOKEN } },
    options: {
      port: Number(port), encrypt: encrypt === 'strict' ? 'strict' : true, database: 'd1', appName: 'tester',
      cryptoCredentialsDetails: { ca: readFileSync(ca) }, rowCollectionOnRequestCompletion: true, requestTimeout: 60000,
      ...options,
    },
  });
  return new Promise((resolve, reject) => connection.connect((err) => (err ? reject(err) : resolve(connection))));
}

// call makes one request; how is execSql, execSqlBatch, callProcedure, …
function call(connection, how, text, prepare = () => {}, ...more) {
  return new Promise((resolve, reject) => {
    const outputs = {};
    const request = new Request(text, (err, count, rows) => {
      if (err) return reject(err);
      resolve({ count, rows: (rows || []).map((r) => r.map((c) => c.value)), outputs });
    });
    request.on('returnValue', (name, value) => { outputs[name] = value; });
    prepare(request);
    connection[how](request, ...more);
  });
}

const promised = (connection, method, ...args) => new Promise((resolve, reject) => {
  connection[method]((err) => (err ? reject(err) : resolve()), ...args);
});

const c = await connect({});
const one = async (text, prepare) => (await call(c, 'execSql', text, prepare)).rows[0];

out.who = await one('SELECT SUSER_SNAME(), DB_NAME(), APP_NAME()');

const big = 'ä'.repeat(150000);
const echoed = await one('SELECT @s, LEN(@s), @b, @i, @f, @n, @t', (r) => {
  r.addParameter('s', TYPES.NVarChar, big);
  r.addParameter('b', TYPES.VarBinary, Buffer.alloc(300000, 7));
  r.addParameter('i', TYPES.BigInt, '1099511627776');
  r.addParameter('f', TYPES.Float, 3.25);
  r.addParameter('n', TYPES.Int, null);
  r.addParameter('t', TYPES.DateTime2, new Date(Date.UTC(2026, 2, 1, 12, 34, 56, 789)));
});
out.echo = [echoed[0] === big, echoed[1], echoed[2].length, echoed[3], echoed[4], echoed[5], echoed[6].toISOString()];

const many = await call(c, 'execSqlBatch', 'SELECT n, pad FROM numbers(5000, 200)');
out.many = [many.rows.length, many.rows[4999][1].length];

await call(c, 'execSqlBatch', 'CREATE TABLE #t (id int, name nvarchar(50) NULL)');
await promised(c, 'beginTransaction');
await call(c, 'execSql', "INSERT INTO #t (id, name) VALUES (1, N'a')");
await promised(c, 'rollbackTransaction');
out.rolledBack = (await one('SELECT COUNT(*) FROM #t'))[0];
await promised(c, 'beginTransaction');
await call(c, 'execSql', "INSERT INTO #t (id, name) VALUES (1, N'a')");
await promised(c, 'saveTransaction', 'here');
await call(c, 'execSql', 'DELETE FROM #t');
await promised(c, 'rollbackTransaction', 'here');
await promised(c, 'commitTransaction');
out.committed = (await one('SELECT COUNT(*) FROM #t'))[0];

const prepared = await new Promise((resolve, reject) => {
  const results = [];
  const request = new Request('SELECT @a + 1', (err, count, rows) => {
    if (err) return reject(err);
    if (results.length === 3) return resolve(results); // unprepared
    results.push(rows[0][0].value);
    if (results.length < 3) return c.execute(request, { a: results.length });
    c.unprepare(request);
  });
  request.addParameter('a', TYPES.Int);
  request.on('prepared', () => c.execute(request, { a: 0 }));
  request.on('error', reject);
  c.prepare(request);
});
out.prepared = prepared;

out.output = (await call(c, 'callProcedure', 'echo', (r) => r.addOutputParameter('v', TYPES.Int, 42))).outputs;

out.bulk = await new Promise((resolve, reject) => {
  const bulk = c.newBulkLoad('#t', (err, count) => (err ? reject(err) : resolve(count)));
  bulk.addColumn('id', TYPES.Int, { nullable: true });
  bulk.addColumn('name', TYPES.NVarChar, { length: 50, nullable: true });
  c.execBulkLoad(bulk, Array.from({ length: 2000 }, (_, i) => ({ id: i, name: `n${i}` })));
});
out.bulkCounted = (await one('SELECT COUNT(*) FROM #t'))[0];

for (const [name, text] of [['raised', "RAISERROR('boom', 16, 1)"], ['syntax', 'SELEC 1']]) {
  try {
    await call(c, 'execSqlBatch', text);
    out[name] = 'no error';
  } catch (err) {
    out[name] = [err.number, err.class, err.message];
  }
}

try {
  await call(c, 'execSqlBatch', "WAITFOR DELAY '01:00:00'", () => setTimeout(() => c.cancel(), 50));
  out.cancelled = 'no error';
} catch (err) {
  out.cancelled = err.code;
}
await promised(c, 'reset');
out.afterReset = (await one('SELECT 7'))[0];
c.close();

const c2 = await connect({ packetSize: 16383, readOnlyIntent: true });
out.packets = (await call(c2, 'execSqlBatch', 'SELECT n, pad FROM numbers(2000, 500)')).rows.length;
c2.close();
console.log(JSON.stringify(out));
