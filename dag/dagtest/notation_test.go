package dagtest_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/heddle-io/heddle/dag"
	"github.com/heddle-io/heddle/dag/dagtest"
)

func TestParse(t *testing.T) {
	g, ids, err := dagtest.Parse("P%2~(B^!(m) n)<1/x:fk,B x")
	if err != nil {
		t.Fatal(err)
	}
	want := dag.Graph{
		Nodes: []dag.Def{
			{Name: "P", Kind: "P", IsBatch: true, Join: 1, Open: true, Tolerance: dag.Tolerance{Count: 2}},
			{Name: "B", Kind: "B", Batch: 1, IsBatch: true, Hold: true, Cleanup: true},
			{Name: "m", Kind: "m", Batch: 2},
			{Name: "n", Kind: "n", Batch: 1},
			{Name: "x", Kind: "x"},
		},
		Edges: []dag.Edge{{Parent: 5, Child: 1, On: dag.Failed | dag.Skipped}, {Parent: 2, Child: 1, On: dag.Succeeded}},
	}
	if !reflect.DeepEqual(g, want) {
		t.Errorf("%+v", g)
	}
	if ids["wf"] != dag.Root || ids["x"] != 5 {
		t.Errorf("%v", ids)
	}
}

func TestParseNamesMistakes(t *testing.T) {
	for text, want := range map[string]string{
		"a b<c": `no node "c"`, "a a": `"a" is there already`, "B(m": "not closed", "a)": "unexpected",
		"a b<a:q": "no condition 'q'", "<a": "a name is missing", "a%x": "invalid syntax", "a b<z/a": "invalid syntax",
	} {
		if _, _, err := dagtest.Parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; should say %s", text, err, want)
		}
	}
}

func TestParseCases(t *testing.T) {
	cases, err := dagtest.ParseCases("// a table\n1 one | a | a+ | wf=S // so\n\n")
	if want := []dagtest.Case{{Name: "1 one", Graph: "a", Events: "a+", Expect: "wf=S"}}; err != nil || !reflect.DeepEqual(cases, want) {
		t.Errorf("%+v %v", cases, err)
	}
	if _, err := dagtest.ParseCases("1 one | a | a+"); err == nil {
		t.Error("a line of three fields passes")
	}
}

// TestCaseSaysWhereItDiffers: a case that does not hold is noticed.
func TestCaseSaysWhereItDiffers(t *testing.T) {
	for expect, want := range map[string]string{
		"a=F": "a is S, not F", "a=S#2": "a started 1 times, not 2", "b=S": `no node "b"`,
	} {
		err := dagtest.Case{Graph: "a", Events: "a+", Expect: expect}.Run(func(g *dag.Graph) (dagtest.Engine, error) { return dagtest.New(g, 0) }, nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; should say %s", expect, err, want)
		}
	}
	for _, events := range []string{"!a+", "b+", "a?", "q:a", "[a=S]"} {
		if err := (dagtest.Case{Graph: "a", Events: events}).Run(func(g *dag.Graph) (dagtest.Engine, error) { return dagtest.New(g, 0) }, nil); err == nil {
			t.Errorf("%s passes", events)
		}
	}
}
