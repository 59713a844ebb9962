$length = ${name}?.Length
