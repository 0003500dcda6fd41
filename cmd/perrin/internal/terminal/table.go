package terminal

import (
	"io"
	"strings"
	"unicode/utf8"
)

// Table prints rows under a header, columns two spaces apart. A header that
// ends in a space is of a column that is aligned to the right.
type Table struct {
	Indent string
	header []string
	rows   [][]string
}

// NewTable returns a table without rows. With no header only rows are printed.
func NewTable(header ...string) *Table { return &Table{header: header} }

// Row adds a row of as many cells as the header has. Cells are made safe to print.
func (t *Table) Row(cells ...string) {
	row := make([]string, len(cells))
	for i, c := range cells {
		row[i] = Clean(c, 200)
	}
	t.rows = append(t.rows, row)
}

// Len returns the number of rows.
func (t *Table) Len() int { return len(t.rows) }

// Write prints the table.
func (t *Table) Write(w io.Writer) error {
	width, right := make([]int, len(t.header)), make([]bool, len(t.header))
	titles := make([]string, len(t.header))
	for i, h := range t.header {
		titles[i], right[i] = strings.TrimSpace(h), strings.HasSuffix(h, " ")
	}
	lines := append([][]string{titles}, t.rows...)
	for _, row := range lines {
		for i, c := range row {
			width[i] = max(width[i], utf8.RuneCountInString(c))
		}
	}
	var out strings.Builder
	for _, row := range lines {
		out.WriteString(strings.TrimRight(t.Indent+line(row, width, right), " "))
		out.WriteByte('\n')
	}
	_, err := io.WriteString(w, out.String())
	return err
}

func line(row []string, width []int, right []bool) string {
	var b strings.Builder
	for i, c := range row {
		if i > 0 {
			b.WriteString("  ")
		}
		pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(c))
		if right[i] {
			b.WriteString(pad + c)
		} else {
			b.WriteString(c + pad)
		}
	}
	return b.String()
}
