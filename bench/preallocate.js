// Touches memory and frees it. On a virtual machine the host may allocate a page when it is first touched, which takes
// several times as long as everything that state.js measures.
const bytes = Buffer.allocUnsafeSlow(Number(process.env.SIZE));
for (let at = 0; at < bytes.length; at += 4096) bytes[at] = 1;
console.log('{"what":"touched"}');
