// One call of gateway doctor, in any Node: it speaks to the proxy itself, as
// not every version obeys the variables, and so can go nowhere else.
const net = require('net'), tls = require('tls');
const e = process.env, authority = e.DOCTOR_HOST + ':' + e.DOCTOR_PORT;
const end = (text, code) => { console.log(text); process.exit(code); };
const failed = (err) => end('failed ' + (err.code || '') + ' ' + err.message, 1);
const head = (socket, done) => {
  let text = '';
  const read = (chunk) => {
    text += chunk.toString('latin1');
    if (!text.includes('\r\n\r\n') && text.length < 65536) return;
    socket.removeListener('data', read);
    done(text.split(' ')[1] || '-', text);
  };
  socket.on('data', read);
  socket.on('error', failed);
  socket.on('close', () => end('failed the connection was closed', 1));
};
const proxy = net.connect(Number(e.DOCTOR_PROXY_PORT), e.DOCTOR_PROXY_HOST, () => {
  const auth = e.DOCTOR_PROXY_AUTH ? 'Proxy-Authorization: ' + e.DOCTOR_PROXY_AUTH + '\r\n' : '';
  proxy.write('CONNECT ' + authority + ' HTTP/1.1\r\nHost: ' + authority + '\r\n' + auth + '\r\n');
});
head(proxy, (status) => {
  if (status !== '200') end('failed CONNECT tunnel failed, response ' + status, 1);
  const inner = tls.connect({ socket: proxy, servername: e.DOCTOR_HOST }, () => {
    const name = e.DOCTOR_PORT === '443' ? e.DOCTOR_HOST : authority;
    inner.write('GET /.gateway/ping HTTP/1.1\r\nHost: ' + name + '\r\nConnection: close\r\n\r\n');
  });
  head(inner, (code, text) => end('answer ' + code + ' ' + ((/^gateway-request-id: *(\S+)/im).exec(text) || ['', ''])[1], 0));
});
