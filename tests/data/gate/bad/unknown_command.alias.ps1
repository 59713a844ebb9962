$names | sort
