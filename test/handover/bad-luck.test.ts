import { describe, expect, test } from "vitest";
import { Client } from "../support/client.js";
import { answer, ask, departures, openAll, replace, response, startMoving } from "../support/moving.js";
import { upgrade } from "../support/steps.js";
