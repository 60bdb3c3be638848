// One colour for each LLM, kept while the page is open; those beyond the tenth share a grey.

const COLORS = Array.from({ length: 10 }, (_, i) => `var(--c${i})`);
const taken = new Map();

// LLMs that answer most come first and so have colours of their own.
export function meet(names) {
  for (const name of names) if (!taken.has(name) && taken.size < COLORS.length) taken.set(name, COLORS[taken.size]);
}

export const colorOf = (name) => taken.get(name) ?? "var(--other)";
