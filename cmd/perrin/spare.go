package main

import (
	"strconv"

	"github.com/spf13/pflag"
)

// spareCount is the value of --spare, which stands alone or before a number:
// --spare, --spare 2, --spare=2.
type spareCount struct {
	n    int32
	bare bool // no number was joined to it
}

// spareBare is what the parser reads where no number is joined to the flag. With
// the type "count" its help shows none.
const spareBare = "+1"

func (c *spareCount) Type() string   { return "count" }
func (c *spareCount) String() string { return strconv.Itoa(int(c.n)) }

// Set reads what is joined to the flag.
func (c *spareCount) Set(text string) error {
	if text == spareBare {
		*c = spareCount{n: 1, bare: true}
		return nil
	}
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil {
		return err
	}
	*c = spareCount{n: int32(n)}
	return nil
}

// word takes the number of --spare N, where N is the first argument: the parser
// stops there, for a flag whose value may be left out never has the next word. The
// flags after it are read then. What begins with a digit and is no number, or
// stands behind a --, is PROGRAM.
func (c *spareCount) word(f *pflag.FlagSet, args []string) ([]string, error) {
	if !c.bare || len(args) == 0 || f.ArgsLenAtDash() == 0 {
		return args, nil
	}
	n, err := strconv.ParseInt(args[0], 10, 32)
	if err != nil {
		return args, nil
	}
	c.n, c.bare = int32(n), false
	if err := f.Parse(args[1:]); err != nil {
		return nil, err
	}
	return f.Args(), nil
}
