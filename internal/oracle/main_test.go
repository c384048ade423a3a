package oracle

import (
	"os"
	"testing"

	"github.com/heddle-io/heddle/internal/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }
