// Placeholder so that the library exists until its first source lands.
