// Package policy has a scheduling policy of a user's own for `perrin sim`, once as
// a Python process over JSON lines and once as a Go program. Both call the cheapest
// node and the nearest one, and the cheaper bid wins. Its tests run them.
package policy
