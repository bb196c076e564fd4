import { Page } from "../support/page.js";

Page.open("comparison");
