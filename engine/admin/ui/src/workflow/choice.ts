// What is chosen on the workflow page, as the address has it. "12" is node 12,
// "c5" the card whose first node is 5, "c5.12" node 12 of that card.
import { param, setQuery, type Query } from "../router.ts";
import type { Card, Graph } from "./graph.ts";

export interface Choice {
  /** First node of a card. */
  card?: number;
  node?: number;
}

export function parseChoice(text: string): Choice | undefined {
  const m = /^(?:c(\d+)(?:\.(\d+))?|(\d+))$/.exec(text);
  if (!m) return undefined;
  const c: Choice = {};
  if (m[1] !== undefined) c.card = Number(m[1]);
  const node = m[2] ?? m[3];
  if (node !== undefined) c.node = Number(node);
  return c;
}

export function writeChoice(c: Choice | undefined): string | null {
  if (!c) return null;
  if (c.card === undefined) return c.node === undefined ? null : String(c.node);
  return c.node === undefined ? `c${c.card}` : `c${c.card}.${c.node}`;
}

/** The choice in the address. */
export function chosen(): Choice | undefined {
  return parseChoice(param("sel"));
}

/** Chooses; more changes the address in the same step. */
export function choose(c: Choice | undefined, more: Query = {}, how: { replace?: boolean } = { replace: true }): void {
  setQuery({ sel: writeChoice(c), ...more }, how);
}

/** A card as a choice: by its node, where it stands for one. */
export function choiceOf(card: Card): Choice {
  return card.node !== 0 ? { node: card.node } : { card: card.first };
}

/** The card in which the choice lies, if that can be told. */
export function cardOf(g: Graph, c: Choice | undefined): Card | undefined {
  if (!c) return undefined;
  if (c.card !== undefined) return g.cards.find((k) => k.first === c.card && k.node === 0) ?? g.cards.find((k) => k.first === c.card);
  const node = c.node!;
  const exact = g.cards.find((k) => k.node === node);
  if (exact) return exact;
  const may = g.cards.filter((k) => !k.isBox && k.first <= node && node <= k.last);
  return may.length === 1 ? may[0] : undefined;
}

/** A set of numbers in the address: "5,12". */
export function numbersIn(name: string): ReadonlySet<number> {
  return new Set(param(name).split(",").filter((s) => /^\d+$/.test(s)).map(Number));
}

/** Puts a number into such a set, or takes it out. */
export function toggleNumber(name: string, n: number, on?: boolean): void {
  const all = new Set(numbersIn(name));
  if (on ?? !all.has(n)) all.add(n);
  else all.delete(n);
  setQuery({ [name]: [...all].join(",") }, { replace: true });
}
