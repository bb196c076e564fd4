// Touches memory, and gives it back. On a virtual machine the host may hand out a page only when it is first touched,
// which takes several times as long as all that is to be measured.
const bytes = Buffer.allocUnsafeSlow(Number(process.env.SIZE));
for (let at = 0; at < bytes.length; at += 4096) bytes[at] = 1;
console.log('{"what":"touched"}');
