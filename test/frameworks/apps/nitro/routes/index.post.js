export default eventHandler(async (event) => `${await readRawBody(event)} from ${process.pid}`);
