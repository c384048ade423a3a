// Who looks, and what they may do. The engine checks every call by itself; the
// page only leaves out what would be refused.
import { computed, signal } from "@preact/signals";
import type { AccessServiceWhoAmIResponse } from "./gen/api.ts";
import { startLive, stopLive } from "./live.ts";
import { call, explain, onUnauthenticated } from "./rpc.ts";

export const me = signal<AccessServiceWhoAmIResponse | undefined>(undefined);
/** Why it is not known who looks. */
export const accessError = signal("");

const rank = { ROLE_UNSPECIFIED: 0, ROLE_WORKER: 0, ROLE_VIEWER: 1, ROLE_OPERATOR: 2, ROLE_ADMIN: 3 };

export const isOperator = computed(() => may("ROLE_OPERATOR"));
export const isAdmin = computed(() => may("ROLE_ADMIN"));

function may(role: keyof typeof rank): boolean {
  const who = me.value;
  return who !== undefined && !who.readOnly && rank[who.role ?? "ROLE_UNSPECIFIED"] >= rank[role];
}

/** Word of the role: "viewer". */
export function roleName(): string {
  return (me.value?.role ?? "").replace("ROLE_", "").toLowerCase();
}

/** Asks the engine who looks. */
export async function whoAmI(): Promise<void> {
  try {
    settle(await call("AccessService/WhoAmI", {}));
    accessError.value = "";
  } catch (e) {
    accessError.value = explain(e);
  }
}

function settle(who: AccessServiceWhoAmIResponse): void {
  me.value = who;
  if (who.loginRequired) stopLive();
  else startLive();
}

export async function login(token: string): Promise<void> {
  await call("AccessService/Login", { token });
  await whoAmI();
}

export async function logout(): Promise<void> {
  await call("AccessService/Logout", {});
  await whoAmI();
}

onUnauthenticated(() => {
  if (me.peek() && !me.peek()!.loginRequired) settle({ ...me.peek()!, loginRequired: true });
});
