"""Networks: tensors in, tensors out, one paper per file. No loss, schedule or device in here."""
