package pagetest

import _ "embed"

// axe-core 4.14.1, Copyright Deque Systems, MPL-2.0: see testdata/README.md.
//
//go:embed testdata/axe.min.js
var axe string

// accessible has axe-core look at the page; what it finds serious or critical
// fails the test.
func (p *page) accessible() {
	p.t.Helper()
	type finding struct {
		ID, Impact, Help string
		Nodes            []string
	}
	// The script comes over the debugger, to which the page's policy does not
	// apply; it stays in the tab.
	ask[bool](p, axe+"\n;true")
	found := ask[[]finding](p, `axe.run(document, {resultTypes: ["violations"]}).then((r) => r.violations
		.filter((v) => v.impact === "serious" || v.impact === "critical")
		.map((v) => ({ID: v.id, Impact: v.impact, Help: v.help, Nodes: v.nodes.slice(0, 5).map((n) => n.html.slice(0, 300) + " " + (n.failureSummary || "").slice(0, 300))})))`)
	for _, f := range found {
		text := ""
		for _, n := range f.Nodes {
			text += "\n\t" + n
		}
		p.t.Errorf("axe: %s %s at %s: %s%s", f.Impact, f.ID, p.address(), f.Help, text)
	}
}
