// A program that does nothing.
setInterval(() => {}, 2 ** 30);
