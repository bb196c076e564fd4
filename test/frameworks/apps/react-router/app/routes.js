import { index, route } from "@react-router/dev/routes";

export default [index("routes/home.jsx"), route("say", "routes/say.js"), route("events", "routes/events.js")];
