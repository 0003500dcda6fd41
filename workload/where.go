package workload

// Where is a parsed placement condition.
type Where struct{}

// ParseWhere parses a condition.
func ParseWhere(s string) (Where, error) { return Where{}, nil }
