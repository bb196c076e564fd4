// What the heavy program of start.js imports. Its server does not use it: only the start counts.
export { default as express } from "express";
export { default as pg } from "pg";
export { default as pino } from "pino";
