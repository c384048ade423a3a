// Package layout makes a picture of a graph: it puts like nodes into groups that
// are drawn as one card each, merges groups where there are too many, and gives
// the cards places. It is pure: it knows the structure of a graph, not how its
// nodes fare, so that a picture is made once and recoloured ever after.
package layout

import "github.com/heddle-io/heddle/dag"

// Structure is what a layout needs to know of a graph; a dag.Builder is one.
// Nodes are 1 to Len, depth first but for what was appended later; node 0 is the
// root, in which every node lies.
type Structure interface {
	Len() int
	Batch(id dag.ID) dag.ID
	IsBatch(id dag.ID) bool
	Name(id dag.ID) string
	Kind(id dag.ID) int32 // the same number for the same kind
	KindName(kind int32) string
	NumEdges() int
	Edge(i int) dag.Edge
}

// Card is a group of nodes drawn as one.
type Card struct {
	// Batch is the batch the card stands in; of a merged card the first of the
	// batches its nodes lie in, whose cards were merged too.
	Batch dag.ID
	// Box is the place of that batch's card; -1: the card stands in no box.
	Box     int32
	IsBatch bool
	Label   string
	Kind    string
	// Node is the node the card stands for, if it is one only; else 0.
	Node dag.ID
	// First and Last are the smallest and the largest number in the group;
	// others may lie between them.
	First, Last dag.ID
	// Size is the number of nodes.
	Size int32
	// Rank is the column: how many nodes run one after the other before it
	// starts. LastRank is the column in which a box ends.
	Rank, LastRank int32
	// X, Y are the middle of the card, in columns and rows; Width and Height its
	// extent, of a box with what is in it.
	X, Y, Width, Height float64
}

// Edge is all edges from the nodes of one card to those of another.
type Edge struct {
	From, To int32       // places of the cards
	On       dag.Outcome // every outcome on which one of them fires
	Size     int32
}

// Merged says how far groups were merged.
type Merged string

// From not at all to wholly.
const (
	Unmerged      Merged = ""
	ByRankAndKind Merged = "rank and kind"
	ByRank        Merged = "rank"
)

// Picture is a graph as cards. A card's group is its place in Cards. A box
// comes before the cards in it, and cards of the same box are in the order of
// their first nodes.
type Picture struct {
	Cards []Card
	Edges []Edge // ordered by From, To; none from a card to itself
	// Los and Grps say which node is in which group: those from Los[i] on to
	// before Los[i+1] are in group Grps[i]. Empty in a merged picture, for which
	// Merge gives where each group went.
	Los  []dag.ID
	Grps []int32
	// Groups is the number of cards before merging.
	Groups int
	Merged Merged
}
