import { createElement } from "react";

export const dynamic = "force-dynamic";

export default function Page() {
  return createElement("p", {}, `hello from ${process.pid}`);
}
