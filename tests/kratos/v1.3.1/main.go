// Kratos 1.3.1 as a program of our own, so that the ordinary Go tools build it from its module.
package main

import (
	"os"

	"github.com/ory/kratos/cmd"
)

func main() {
	os.Exit(cmd.Execute())
}
