"""What is true?  Pure: values in, values out."""
