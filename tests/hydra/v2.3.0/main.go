// Hydra 2.3.0 as a program of our own, so that the ordinary Go tools build it from its module.
package main

import "github.com/ory/hydra/v2/cmd"

func main() {
	cmd.Execute()
}
