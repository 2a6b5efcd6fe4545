// The npm package `macaroon` 3.0.4, driven line by line: a JSON request in, a JSON answer out.
'use strict';
const readline = require('readline');
const M = require('macaroon');

const hex = (text) => Uint8Array.from(Buffer.from(text, 'hex'));
const out = (bytes) => Buffer.from(bytes).toString('hex');
const utf8 = (bytes) => Buffer.from(bytes).toString('utf8');

function read(text) {
  const bytes = hex(text);
  return bytes[0] === 0x7b ? M.importMacaroon(JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes)))
                           : M.importMacaroon(bytes);
}

function write(macaroon, format) {
  return format === 'V2' ? out(macaroon.exportBinary()) : out(Buffer.from(JSON.stringify(macaroon.exportJSON())));
}

function attenuate(macaroon, steps) {
  for (const step of steps) {
    if (step.key === undefined) macaroon.addFirstPartyCaveat(hex(step.id));
    else macaroon.addThirdPartyCaveat(hex(step.key), hex(step.id), step.location);
  }
  return macaroon;
}

const commands = {
  // A macaroon and its bound discharges, from a specification.
  make(r) {
    const make = (s) => attenuate(
      M.newMacaroon({ version: 2, rootKey: hex(s.key), identifier: hex(s.id), location: s.location }), s.caveats);
    const root = make(r.root);
    const discharges = r.discharges.map(make);
    for (const one of discharges) one.bindToRoot(root.signature);
    return { root: write(root, r.format), discharges: discharges.map((m) => write(m, r.format)),
             unbound: r.discharges.map((s) => write(make(s), r.format)), signature: out(root.signature) };
  },
  attenuate(r) {
    return { root: write(attenuate(read(r.root), r.steps), r.format) };
  },
  bind(r) {
    const root = read(r.root);
    return { discharges: r.discharges.map((text) => {
      const one = read(text);
      one.bindToRoot(root.signature);
      return write(one, r.format);
    }) };
  },
  judge(r) {
    let root, discharges;
    try {
      root = read(r.root);
      discharges = r.discharges.map(read);
    } catch (error) { return { said: 'parse_error' }; }
    const holds = new Set(r.predicates);
    try {
      // The library hands predicates over as text; where they are not UTF-8 it throws earlier.
      root.verify(hex(r.key), (text) => holds.has(out(Buffer.from(text, 'utf8'))) ? null : 'does not hold', discharges);
      return { said: 'accept' };
    } catch (error) { return { said: 'reject', why: String(error.message || error) }; }
  },
};

readline.createInterface({ input: process.stdin }).on('line', (line) => {
  const request = JSON.parse(line);
  let answer;
  try { answer = commands[request.do](request); } catch (error) { answer = { error: String(error.message || error) }; }
  process.stdout.write(JSON.stringify(answer) + '\n');
});
