export default eventHandler(() => `hello from ${process.pid}`);
