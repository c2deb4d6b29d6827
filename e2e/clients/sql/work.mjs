// What applications do, by node's drivers, step by step: each step is a line
// "name=value". Arguments: tedious or mssql, host, port, encrypt (false, true,
// strict), the file of the CA, user, password, and the one step to make, if not
// all.
import { readFileSync } from 'node:fs';
import tedious from 'tedious';
import mssql from 'mssql';

const [driver, host, port, encrypt, ca, user, password, only] = process.argv.slice(2);
const secure = encrypt === 'strict' ? 'strict' : encrypt === 'true';
const say = (name, value) => console.log(`${name}=${value}`);
const million = 'SELECT n, pad FROM numbers(1000000, 200)'; // cancelled at the first row
const big = 'ä'.repeat(150000);
const code = (err) => `${err.number ?? err.originalError?.info?.number ?? err.code} ${err.message}`;

async function byTedious() {
  const { Connection, Request, TYPES } = tedious;
  const c = new Connection({
    server: host,
    authentication: { type: 'default', options: { userName: user, password } },
    options: {
      port: Number(port), encrypt: secure, database: 'd1', appName: 'worker', requestTimeout: 60000, connectTimeout: 30000,
      rowCollectionOnRequestCompletion: true, cryptoCredentialsDetails: { ca: readFileSync(ca) },
    },
  });
  c.on('errorMessage', (m) => say('number', m.number));
  await new Promise((yes, no) => c.connect((err) => (err ? no(err) : yes())));
  const call = (how, text, prepare = () => {}) => new Promise((yes, no) => {
    const request = new Request(text, (err, count, rows) => (err ? no(err) : yes(rows.map((r) => r.map((v) => v.value)))));
    prepare(request);
    c[how](request);
  });
  const one = async (text, prepare) => (await call('execSql', text, prepare))[0][0];
  const promised = (method) => new Promise((yes, no) => c[method]((err) => (err ? no(err) : yes())));
  say('who', await one('SELECT SUSER_SNAME()'));
  if (only === 'who') return c.close();
  say('echo', (await one('SELECT @s', (r) => r.addParameter('s', TYPES.NVarChar, big))) === big);
  say('rows', (await call('execSqlBatch', 'SELECT n, pad FROM numbers(5000, 200)')).length);
  await call('execSqlBatch', 'CREATE TABLE #t (id int)');
  for (const end of ['rollbackTransaction', 'commitTransaction']) {
    await promised('beginTransaction');
    await call('execSql', 'INSERT INTO #t VALUES (1)');
    await promised(end);
    say(end.replace('Transaction', ''), await one('SELECT COUNT(*) FROM #t'));
  }
  say('bulk', await new Promise((yes, no) => {
    const bulk = c.newBulkLoad('#t', (err, count) => (err ? no(err) : yes(count)));
    bulk.addColumn('id', TYPES.Int, { nullable: true });
    c.execBulkLoad(bulk, Array.from({ length: 50000 }, (_, id) => ({ id })));
  }));
  say('raised', await call('execSqlBatch', "RAISERROR('boom', 16, 1)").then(() => 'no error', code));
  say('cancel', await call('execSqlBatch', million, (r) => r.once('row', () => c.cancel())).then(() => 'no error', (err) => err.code));
  say('after', await one('SELECT 7'));
  await promised('reset');
  say('reset', await one('SELECT 8'));
  c.close();
}

async function byPool() {
  const pool = await mssql.connect({
    server: host, port: Number(port), database: 'd1', user, password, requestTimeout: 60000, pool: { max: 3 },
    options: { encrypt: secure, appName: 'worker', cryptoCredentialsDetails: { ca: readFileSync(ca) } },
  });
  pool.on('error', () => {});
  const one = async (from, text) => Object.values((await from.request().query(text)).recordset[0])[0];
  say('who', await one(pool, 'SELECT SUSER_SNAME()'));
  if (only === 'who') return pool.close();
  say('echo', (await pool.request().input('s', mssql.NVarChar(mssql.MAX), big).query('SELECT @s AS s')).recordset[0].s === big);
  say('rows', (await pool.request().query('SELECT n, pad FROM numbers(5000, 200)')).recordset.length);
  await pool.request().batch('CREATE TABLE pooled (id int)');
  for (const end of ['rollback', 'commit']) {
    const t = new mssql.Transaction(pool);
    await t.begin();
    await t.request().query('INSERT INTO pooled VALUES (1)');
    await t[end]();
    say(end, await one(pool, 'SELECT COUNT(*) FROM pooled'));
  }
  await pool.request().batch('DROP TABLE pooled');
  say('raised', await pool.request().batch("RAISERROR('boom', 16, 1)").then(() => 'no error', code));
  const long = pool.request();
  long.stream = true;
  long.once('row', () => long.cancel());
  say('cancel', await new Promise((yes) => {
    long.once('error', (err) => yes(err.code));
    long.once('done', () => yes('no error'));
    long.batch(million);
  }));
  say('after', await one(pool, 'SELECT 7'));
  const all = await Promise.all(Array.from({ length: 20 }, (_, i) => one(pool, `SELECT ${i}`)));
  say('pool', all.reduce((a, b) => a + b, 0));
  await pool.close();
}

try {
  await (driver === 'tedious' ? byTedious() : byPool());
} catch (err) {
  say('failed', code(err));
  process.exit(1);
}
