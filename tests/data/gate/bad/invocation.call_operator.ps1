& $program
