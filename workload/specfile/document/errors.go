package document

import (
	"cmp"
	"errors"
	"slices"
	"strings"
)

// maxErrors is how many errors of one file are told of.
const maxErrors = 20

// Errors is everything that is wrong with a file, in its order, 20 at most.
type Errors []*Error

// Sorted returns errs in the order of the file, and no more than are told of.
func Sorted(errs Errors) Errors {
	slices.SortStableFunc(errs, func(a, b *Error) int { return (a.Line-b.Line)<<16 + a.Column - b.Column })
	return errs[:min(len(errs), maxErrors)]
}

// AsErrors makes a lone *Error one of Errors and returns others as they are.
func AsErrors(err error) error {
	var own *Error
	if errors.As(err, &own) {
		return Errors{own}
	}
	return err
}

// Error returns one line for each.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, each := range e {
		lines[i] = each.Error()
	}
	return strings.Join(lines, "\n")
}

// Hint returns what to do about the first that has a hint; of slips of the pen, all of them.
func (e Errors) Hint() string {
	const slip = "did you mean "
	first, names := "", []string(nil)
	for _, each := range e {
		first = cmp.Or(first, each.Hint)
		if name, ok := strings.CutPrefix(each.Hint, slip); ok {
			names = append(names, strings.TrimSuffix(name, "?"))
		}
	}
	if strings.HasPrefix(first, slip) {
		return slip + strings.Join(names, ", ") + "?"
	}
	return first
}
