// Which theme the page wears: the system's, unless a person chose one.
import { effect, signal } from "@preact/signals";

export type Theme = "system" | "light" | "dark";

const key = "heddle theme";

export const theme = signal<Theme>(stored());

function stored(): Theme {
  try {
    const t = localStorage.getItem(key);
    return t === "light" || t === "dark" ? t : "system";
  } catch {
    return "system"; // storage may be forbidden
  }
}

/** Applies the theme, now and when it changes. Call it once. */
export function startTheme(): void {
  effect(() => {
    const t = theme.value;
    const root = document.documentElement;
    if (t === "system") root.removeAttribute("data-theme");
    else root.setAttribute("data-theme", t);
    try {
      localStorage.setItem(key, t);
    } catch {
      // then it holds for this page only
    }
  });
}

/** Whether what is shown now is dark. */
export function isDark(): boolean {
  return theme.value === "dark" || (theme.value === "system" && matchMedia("(prefers-color-scheme: dark)").matches);
}
