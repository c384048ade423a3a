import "./theme.css";
import "./components/components.css";
import "./frame.css";
import { render } from "preact";
import { whoAmI } from "./access.ts";
import { App } from "./app.tsx";
import { startClock } from "./clock.ts";
import { startKeyboard } from "./keyboard.ts";
import { connectLive } from "./live.ts";
import { startRouter } from "./router.ts";
import { startTheme } from "./theme.ts";

startTheme();
startClock();
startRouter();
startKeyboard();
connectLive();
void whoAmI();
render(<App />, document.getElementById("app")!);
