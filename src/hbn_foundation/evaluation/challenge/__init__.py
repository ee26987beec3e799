"""The challenge's two tasks evaluated: response times and psychopathology factors."""
